"""A folder of one's own: patterns, ids and their faults."""

import numpy as np
import pytest
import trees

from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.domain import Domain


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ids": {7: "lawn"}},
            "ids maps 7 to 'lawn'; map an id of 0-255 to a train id of 0-18, ignore, or one of road,",
        ),
        ({"ids": {7: 19}}, "ids maps 7 to 19"),
        ({"ids": {256: 1}}, "ids maps 256 to 1"),
        ({"ids": {"road": 7}}, "ids maps 'road' to 7"),
        ({"ids": "gone.yaml"}, "ids file gone.yaml not found"),
        ({"ids": "list.yaml"}, "list.yaml holds no mapping; write lines like '7: road'"),
        ({"ids": "bad.yaml"}, "bad.yaml is not YAML"),
        ({"images": "photos"}, "images is 'photos'; write a pattern with"),
        ({"labels": "maps/*.jpg"}, "labels is 'maps/.*.jpg'; write a pattern with .* ends in .png"),
        ({"labels": None}, "data set 'folder' does not take options .*missing .* argument: 'labels'"),
        ({"ids": {0: 0, 7: 8}}, "1_id.png: label value 200 is not among this data set's ids 0, 7"),
        ({"masks": "x"}, "data set 'folder' has no option masks"),
    ],
)
def test_faults_in_the_options_of_a_folder(tmp_path, change, message):
    options = {**own_folder(tmp_path), "ids": {0: 0, 7: 8, 200: "ignore"}} | change
    (tmp_path / "list.yaml").write_text("- road")
    (tmp_path / "bad.yaml").write_text("0: [road")
    given = {key: value for key, value in options.items() if value is not None}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Domain("folder", str(tmp_path), eval_split="day", options=given).open("mine", "eval")[0]
    assert "\n" not in str(caught.value)
