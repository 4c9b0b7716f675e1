"""A folder of one's own: patterns, ids and their faults."""

import shutil

import numpy as np
import pytest
import trees

from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CITYSCAPES


def own_folder(root):
    for split in ("day", "dusk"):
        for city in ("ulm", "bonn"):
            trees.write_image(root / f"photos/{city}/{split}/1.jpg")
            trees.write_label(root / f"maps/{city}/{split}/1_id.png", trees.stripes([0, 7, 200]))
    return {"images": "photos/*/{split}/*.png", "labels": "maps/*/{split}/*_id.png"}


@pytest.mark.parametrize("form", ["mapping", "under the root", "from here"])
def test_folder_with_ids_by_name_number_and_ignore(tmp_path, monkeypatch, form):
    options = own_folder(tmp_path / "root")
    ids = {0: "road", 7: 8, "200": "ignore"}
    if form != "mapping":
        path = (tmp_path / "root" if form == "under the root" else tmp_path) / "ids.yaml"
        path.write_text("0: road\n7: 8\n200: ignore\n")
        monkeypatch.chdir(tmp_path)
        ids = "ids.yaml"
    domain = Domain("folder", str(tmp_path / "root"), eval_split="dusk", options={**options, "ids": ids})
    dataset = domain.open("mine", "eval")
    assert dataset.scored_classes == (0, 8)
    assert [dataset[index]["name"] for index in range(len(dataset))] == ["bonn/1", "ulm/1"]
    np.testing.assert_array_equal(dataset[0]["label"], trees.stripes([0, 8, 255]))


def test_images_and_labels_may_share_a_folder(tmp_path):
    for name in ("a", "b"):
        trees.write_image(tmp_path / f"{name}.jpg")
        trees.write_label(tmp_path / f"{name}.png", trees.stripes([1]))
    dataset = DATASETS["folder"](tmp_path, "all", "mine", images="*.jpg", labels="*.png", ids={1: "sky"})
    assert dataset.names == ["a", "b"]


LINES = "0: road\n7: 8\n200: ignore\n"


@pytest.mark.remedy("data/datasets/folder.py::Folder.__init__")
@pytest.mark.remedy("data/datasets/folder.py::Folder.__init__")
@pytest.mark.remedy("data/datasets/folder.py::_read_ids")
@pytest.mark.remedy("data/layout.py::find")
@pytest.mark.remedy("data/meanings.py::Meanings.__init__")
@pytest.mark.remedy("data/meanings.py::Meanings.__init__")
@pytest.mark.remedy("data/domain.py::Domain._options")
@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        (
            {"ids": {0: 0, 7: "lawn", 200: 255}},
            "ids maps 7 to 'lawn'; map an id of 0-65535 to a train id of 0-18, ignore, or one of road,",
            {"ids": {0: 0, 7: "terrain", 200: "ignore"}},
        ),
        ({"ids": {0: 0, 7: 19, 200: 255}}, "ids maps 7 to 19; map .* a train id of", {"ids": {0: 0, 7: 18, 200: 255}}),
        ({"ids": {65536: 1}}, "ids maps 65536 to 1; map an id of 0-65535", {"ids": {0: 0, 7: 0, 200: 255}}),
        ({"ids": {"road": 7}}, "ids maps 'road' to 7; map an id of", {"ids": {0: 0, 7: "road", 200: 255}}),
        ({"ids": "gone.yaml"}, "file gone.yaml not found.*; write ids with lines like '7: road'", "gone.yaml"),
        ({"ids": "list.yaml"}, "list.yaml is no mapping in YAML; write it with lines like '7: road'", "list.yaml"),
        ({"ids": "bad.yaml"}, "bad.yaml is no mapping in YAML; write it with lines like '7: road'", "bad.yaml"),
        ({"images": "photos"}, r"images is 'photos'; write a pattern with \* that ends in .png or .jpg", {}),
        ({"labels": "maps/*.jpg"}, r"labels is 'maps/.*.jpg'; write a pattern with \* that ends in .png", {}),
        ({"labels": None}, "labels is ''; write a pattern", {}),
        ({"labels": "maps/*.jpg"}, "; or give pairs alone", {"images": "", "labels": "", "pairs": "pairs.csv"}),
        ({"pairs": "pairs.csv"}, r"images is 'photos/.*; or give pairs alone, without images and labels", {}),
        ({"encoding": "RGB"}, "\"encoding\": Expected a .*'ids', 'colours'.*. Got value: RGB", {"encoding": "ids"}),
        ({"uncovered": "lawn"}, "uncovered is 'lawn'; give a train id of 0-18, ignore, or", {"uncovered": "terrain"}),
        ({"offset": "one"}, "data set 'folder': .*\"offset\": .*'int'.*; it takes images, .*, offset", {"offset": 1}),
        ({"offset": -1}, "offset is -1; give the id of the first class, at least 0", {"offset": 0}),
        ({"masks": "x"}, "data set 'folder': Option 'masks' is not accepted; it takes images, labels, pairs", {}),
    ],
)
def test_faults_in_the_options_of_a_folder(tmp_path, change, message, remedy):
    right = {**own_folder(tmp_path), "ids": {0: 0, 7: 8, 200: "ignore"}}
    (tmp_path / "list.yaml").write_text("- road")
    (tmp_path / "bad.yaml").write_text("0: [road")
    (tmp_path / "pairs.csv").write_text("image,label\nphotos/ulm/day/1.jpg,maps/ulm/day/1_id.png\n")
    given = {key: value for key, value in (right | change).items() if value is not None}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Domain("folder", str(tmp_path), eval_split="day", options=given).open("mine", "eval")
    assert "\n" not in str(caught.value)
    if isinstance(remedy, str):
        (tmp_path / remedy).write_text(LINES)
        remedy = {"ids": remedy}
    domain = Domain("folder", str(tmp_path), eval_split="day", options={**right, **remedy})
    assert domain.open("mine", "eval")[0]["image"].ndim == 3


@pytest.mark.remedy("images/decoding.py::to_train_ids")
@pytest.mark.parametrize("where", ["the config", "a file"])
def test_an_id_that_is_not_listed_is_added_to_ids(tmp_path, where):
    options = own_folder(tmp_path) | {"ids": {0: 0, 200: 255} if where == "the config" else "ids.yaml"}
    (tmp_path / "ids.yaml").write_text("0: road\n200: ignore\n")
    domain = Domain("folder", str(tmp_path), eval_split="day", options=options)
    with pytest.raises(ValueError, match="1_id.png: label value 7 is not among .* ids 0, 200; map all ids in ids"):
        domain.open("mine", "eval")[0]
    if where == "a file":
        with (tmp_path / options["ids"]).open("a") as lines:
            lines.write("7: sky\n")
    else:
        options["ids"] |= {7: "sky"}
    np.testing.assert_array_equal(domain.open("mine", "eval")[0]["label"], trees.stripes([0, 10, 255]))


@pytest.mark.remedy("images/decoding.py::read_label")
@pytest.mark.parametrize(
    "remedy",
    ["set encoding to colours", "let option labels match the maps of ids", "put a grey or palette PNG of its ids"],
)
def test_a_pattern_that_matches_coloured_labels(tmp_path, remedy):
    options = own_folder(tmp_path) | {"ids": {0: 0, 7: 8, 200: "ignore"}}
    paths = [path.with_stem("1_colour") for path in tmp_path.rglob("1_id.png")]
    for path in paths:
        trees.write_image(path)
    wrong = options | {"labels": options["labels"].replace("_id", "_colour")}
    domain = Domain("folder", str(tmp_path), eval_split="day", options=wrong)
    with pytest.raises(ValueError, match=rf"1_colour.png: a picture of mode \w+, not a map of ids; .*{remedy}"):
        domain.open("mine", "eval")[0]
    if remedy.startswith("put"):
        for path in paths:
            shutil.copy(path.with_stem("1_id"), path)
    elif remedy.startswith("set"):
        for path in paths:  # if the colours are those of the classes
            label = trees.stripes([0, 8, 255])
            trees.write_label(path, CITYSCAPES.colourise(label))
        domain = Domain("folder", str(tmp_path), eval_split="day", options={**wrong, "ids": {}, "encoding": "colours"})
    else:
        domain = Domain("folder", str(tmp_path), eval_split="day", options=options)
    np.testing.assert_array_equal(domain.open("mine", "eval")[0]["label"], trees.stripes([0, 8, 255]))
