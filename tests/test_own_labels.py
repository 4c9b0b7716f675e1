"""Labels as people have them: colours, offsets, masks, outlines in JSON, pairs in a CSV file."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
import trees
from PIL import Image

from ppar_lightning.cli import main
from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.loading import collate
from ppar_lightning.images.classes import IGNORE, class_list
from ppar_lightning.images.colour_key import colours_to_train_ids

CLASSES = [
    {"name": "floor", "colour": [90, 90, 90]},
    {"name": "crate", "colour": [200, 120, 40]},
    {"name": "person", "colour": [220, 20, 60]},
]
IDS = trees.stripes([0, 1, 2, 255])
"""Floor, crate, person and what is ignored, in stripes of 20 columns."""

PATTERNS = {"images": "photos/*.jpg", "labels": "labels/*.png"}


def own(root, **options) -> Folder:
    return Folder(root, "all", "own", **{**PATTERNS, "classes": CLASSES, **options})


@pytest.fixture
def root(tmp_path):
    trees.write_image(tmp_path / "photos/a.jpg")
    (tmp_path / "labels").mkdir()
    return tmp_path


def test_ids_of_the_classes_need_no_table(root):
    trees.write_label(root / "labels/a.png", IDS)
    dataset = own(root)
    np.testing.assert_array_equal(dataset[0]["label"], IDS)
    assert dataset.labelled_in.names == ("floor", "crate", "person")
    assert [*dataset.scored_classes] == ["floor", "crate", "person"]


@pytest.mark.remedy("images/decoding.py::to_train_ids")
@pytest.mark.parametrize("remedy", [{"ids": {0: "ignore", 1: "floor", 2: "crate", 3: "person"}}, {"offset": 1}])
def test_an_id_of_no_class_asks_for_ids_or_an_offset(root, remedy):
    trees.write_label(root / "labels/a.png", trees.stripes([1, 2, 3, 0]))
    with pytest.raises(
        ValueError, match="label value 3 is not among .* 0, 1, 2, 255; map all ids in ids, .* an offset"
    ):
        own(root)[0]
    np.testing.assert_array_equal(own(root, **remedy)[0]["label"], IDS)


def test_an_offset_reaches_beyond_a_byte_and_255_is_then_a_class_like_others(root):
    names = [f"thing {number}" for number in range(255)]
    trees.write_label(root / "labels/a.png", trees.stripes([0, 1, 254, 255]))
    label = own(root, classes=names, offset=1)[0]["label"]
    np.testing.assert_array_equal(label, trees.stripes([255, 0, 253, 254]))
    Image.fromarray(trees.stripes([0, 1, 2]).astype(np.uint16) + 999).save(root / "labels/a.png")
    np.testing.assert_array_equal(own(root, offset=1000)[0]["label"], trees.stripes([255, 0, 1]))
    np.testing.assert_array_equal(
        own(root, ids={999: "ignore", 1000: 0, 1001: 1})[0]["label"], trees.stripes([255, 0, 1])
    )


def test_labels_in_another_list_than_that_of_the_run_are_mapped_by_name(root):
    trees.write_label(root / "labels/a.png", IDS)
    domain = Domain("folder", str(root), options={**PATTERNS, "classes": CLASSES})
    split = domain.open("own", "eval", classes=class_list(["person", "dog", "floor"]))
    np.testing.assert_array_equal(split[0]["label"], trees.stripes([2, 255, 0, 255]))
    assert split.remarks[0].startswith("crate: not among data.classes")
    (root / "own.yaml").write_text(json.dumps(CLASSES[1:]))
    assert own(root, classes="own.yaml").labelled_in.names == ("crate", "person")
    assert own(root, classes=None, target=class_list("binary")).labelled_in.names == ("background", "object")


def test_what_colours_mean_is_part_of_what_is_hashed(root):
    trees.write_label(root / "labels/a.png", class_list(CLASSES).colourise(IDS))
    options = [{}, {"ids": {"#000000": "crate"}}, {"colour_distance": 3.0}, {"encoding": "ids"}]
    datasets = [own(root, **{"encoding": "colours", **each}) for each in options]
    assert len({dataset.code for dataset in datasets}) == len(options)


def test_a_mask_of_0_and_255_is_one_with_ids(root):
    trees.write_label(root / "labels/a.png", trees.stripes([0, 255]))
    dataset = own(root, classes="binary", ids={0: "background", 255: "object"})
    np.testing.assert_array_equal(dataset[0]["label"], trees.stripes([0, 1]))
    np.testing.assert_array_equal(own(root, classes="binary")[0]["label"], trees.stripes([0, 255]))


def test_colours_are_those_of_the_classes_and_black_is_ignored(root):
    coloured = class_list(CLASSES).colourise(IDS)
    for suffix in ("png", "bmp", "tif"):
        path = root / f"{suffix}/a.{suffix}"
        trees.write_label(path, coloured)
        dataset = own(root, labels=f"{suffix}/*.{suffix}", encoding="colours")
        np.testing.assert_array_equal(dataset[0]["label"], IDS)
    Image.fromarray(coloured).quantize(8).save(root / "labels/a.png")
    np.testing.assert_array_equal(own(root, encoding="colours")[0]["label"], IDS)


COLOUR = r"a.png: '#c8962d' \(25.00% of the pixels\), '#646464' \(1.25% of the pixels\) belong to no class; "


@pytest.mark.remedy("images/colour_key.py::colours_to_train_ids")
@pytest.mark.parametrize("remedy", ["give a class this colour", "map it in ids", "raise colour_distance to"])
def test_a_colour_of_no_class_is_named_with_its_share(root, remedy):
    coloured = class_list(CLASSES).colourise(IDS)
    coloured[:, 20:40] = 200, 150, 45
    coloured[:, 79] = 100
    trees.write_label(root / "labels/a.png", coloured)
    with pytest.raises(ValueError, match=f"{COLOUR}.*{remedy}") as caught:
        own(root, encoding="colours", colour_distance=3)[0]
    options = {
        "give": {
            "classes": [{**CLASSES[0], "colour": [100, 100, 100]}, {**CLASSES[1], "colour": [200, 150, 45]}, CLASSES[2]]
        },
        "map": {"ids": {"#C8962D": "crate", "#646464": "floor"}},
        "raise": {"colour_distance": float(re.search(r"colour_distance to (\d+)", str(caught.value))[1])},
    }[remedy.split()[0]]
    if remedy.startswith("give"):
        coloured[:, :20] = 100
        trees.write_label(root / "labels/a.png", coloured)
    expected = IDS.copy()
    expected[:, 79] = 0
    np.testing.assert_array_equal(own(root, encoding="colours", **options)[0]["label"], expected)


def test_many_colours_are_counted_and_the_nearest_is_the_nearest():
    rng = np.random.default_rng(0)
    colours = [tuple(map(int, colour)) for colour in rng.choice(256, (40, 3))]
    picture = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    key = tuple(zip(colours, range(40), strict=True))
    far = np.linalg.norm(picture[:, :, None].astype(float) - np.array(colours), axis=-1)
    found = np.take_along_axis(far, colours_to_train_ids(picture, key, 450, "a.png")[..., None].astype(int), axis=-1)[
        ..., 0
    ]
    np.testing.assert_array_equal(found, far.min(axis=-1))
    with pytest.raises(
        ValueError, match=r"a.png: '#\w{6}' .*, '#\w{6}' .*, '#\w{6}' \(0.03% of .*\) and \d+ more colours"
    ):
        colours_to_train_ids(picture, key, 0, "a.png")


def outlines(size=(48, 80)) -> dict:
    """Floor everywhere, a crate on it, a group of persons, and what somebody deleted."""
    height, width = size
    whole = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    objects = [
        {"label": "floor", "polygon": whole},
        {"label": "crate", "polygon": [[20, 0], [39, 0], [39, 47], [20, 47]]},
        {"label": "persongroup", "polygon": [[40, 0], [59, 0], [59, 47], [40, 47]]},
        {"label": "dog", "polygon": [[60, 0], [79, 0], [79, 47], [60, 47]]},
        {"label": "crate", "polygon": whole, "deleted": 1},
    ]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def labelme() -> dict:
    shapes = [{"label": each["label"], "points": each["polygon"]} for each in outlines()["objects"][:3]]
    shapes[2] |= {"label": "person", "shape_type": "polygon"}
    shapes.append({"label": "dog", "points": outlines()["objects"][3]["polygon"]})
    return {"imageHeight": 48, "imageWidth": 80, "shapes": shapes}


@pytest.mark.remedy("data/outlines.py::refuse_unknown")
@pytest.mark.parametrize("write", [outlines, labelme])
def test_outlines_of_one_image(root, write):
    (root / "labels/a.json").write_text(json.dumps(write()))
    with pytest.raises(ValueError, match=r"a.json has objects of no class: dog; map .* as in ids: \{dog: ignore\}"):
        own(root, labels="labels/*.json")[0]
    dataset = own(root, labels="labels/*.json", ids={"dog": "ignore"})
    np.testing.assert_array_equal(dataset[0]["label"], IDS)
    assert [*dataset.scored_classes] == ["floor", "crate", "person"]


def coco(names=("a.jpg",)) -> dict:
    """One crate as polygons of which one is a triangle, and persons as a crowd."""
    persons = np.zeros((48, 80), np.uint8)
    persons[3:40, 41:60] = 1
    runs = np.diff(np.flatnonzero(np.diff(persons.T.ravel(), prepend=2, append=2)))
    parts = [[20.0, 0, 40, 0, 40, 24, 20, 24], [20.0, 30, 40, 30, 20, 48]]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": parts, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 9, "segmentation": {"counts": runs.tolist(), "size": [48, 80]}},
    ]
    images = [{"id": 7 + k, "file_name": name, "height": 48, "width": 80} for k, name in enumerate(names)]
    categories = [{"id": 3, "name": "crate"}, {"id": 9, "name": "person"}, {"id": 5, "name": "never drawn"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("name", ["a.jpg", "photos/a.jpg"])
def test_one_file_of_coco(root, name):
    (root / "all.json").write_text(json.dumps(coco([name])))
    dataset = own(root, labels="{split}.json", uncovered="floor")
    label = dataset[0]["label"]
    assert set(np.unique(label)) == {0, 1, 2}
    assert (label == 2).sum() == 37 * 19
    assert (label == 1).sum() == pytest.approx(20 * 24 + 20 * 18 / 2, rel=0.15)  # pixels on the outline belong to it
    np.testing.assert_array_equal(dataset.read_label(0), label)
    assert own(root, labels="all.json").read_label(0)[47, 79] == 255


@pytest.mark.parametrize("labels", ["labels/*.json", "{split}.json"])
def test_torch_may_write_to_labels_that_are_drawn(root, labels):
    (root / "labels/a.json").write_text(json.dumps(outlines()))
    (root / "all.json").write_text(json.dumps(coco()))
    sample = own(root, labels=labels, ids={"dog": "ignore"})[0]
    torch.set_warn_always(True)  # not once a process, which another test may have had
    try:
        with warnings.catch_warnings(action="error"):
            assert collate([sample, sample])["label"].shape == (2, 48, 80)
    finally:
        torch.set_warn_always(False)


def compressed(runs: list[int]) -> str:
    """Runs as COCO's API writes them."""
    text = ""
    for k, run in enumerate(runs):
        value, more = run - (runs[k - 2] if k > 2 else 0), True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
    return text


def test_compressed_runs_are_the_runs(root):
    content = coco()
    content["annotations"][1]["segmentation"]["counts"] = [3, 1, 900, 40, 60, 1000, 1, 1, 1834]
    (root / "all.json").write_text(json.dumps(content))
    plain = own(root, labels="all.json")[0]["label"]
    content["annotations"][1]["segmentation"]["counts"] = compressed([3, 1, 900, 40, 60, 1000, 1, 1, 1834])
    (root / "all.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(own(root, labels="all.json")[0]["label"], plain)
    assert (plain == 2).sum() == 1 + 40 + 1000 + 1
    assert (plain[3, 0], plain[4, 0]) == (2, 255)


@pytest.mark.remedy("data/outlines.py::refuse_unknown")
@pytest.mark.remedy("data/outlines.py::_naming")
@pytest.mark.remedy("data/outlines.py::read_coco")
@pytest.mark.remedy("data/outlines.py::read_coco")
def test_faults_of_a_file_of_coco(root):
    path, content = root / "all.json", coco()
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"all.json has objects of no class: crate, person; map each"):
        own(root, labels="all.json", classes="binary")
    ids = {"crate": "object", "person": "ignore"}
    assert own(root, labels="all.json", classes="binary", ids=ids)[0]["label"].min() == 1
    whole = path.read_text()
    content["annotations"][0]["segmentation"] = []
    content["annotations"][1]["segmentation"]["counts"] = [5]
    for text in (whole[:50], "[]", "{}", json.dumps(content), json.dumps(coco(["a.jpg", "a.jpg"]))):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"all.json: no polygons of Cityscapes .* \(.*\); restore it from where it came"
        ) as caught:
            own(root, labels="all.json")
        assert "\n" not in str(caught.value)
    path.write_text(whole)
    assert len(own(root, labels="all.json")) == 1


def test_an_image_of_coco_that_is_missing_is_named(root):
    (root / "all.json").write_text(json.dumps(coco(["a.jpg", "b.jpg"])))
    with pytest.raises(FileNotFoundError, match=r"all.json/b.jpg has no image \(1 of 3 files"):
        own(root, labels="all.json")
    assert len(own(root, labels="all.json", on_bad_sample="skip")) == 1


@pytest.mark.parametrize("shape", [{"shape_type": "circle"}, {"points": [[1, 1]]}, {"points": "x"}])
@pytest.mark.remedy("data/outlines.py::read_outlines")
def test_a_shape_without_an_area_is_refused(root, shape):
    content = labelme()
    content["shapes"] = content["shapes"][:3]
    content["shapes"][1] |= shape
    (root / "labels/a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a.json: no polygons of Cityscapes .*; restore it .*, or export it again"):
        own(root, labels="labels/*.json")[0]
    content["shapes"][1] = labelme()["shapes"][1]
    (root / "labels/a.json").write_text(json.dumps(content))
    assert own(root, labels="labels/*.json")[0]["label"].max() == 2


def test_a_rectangle_has_two_corners(root):
    content = labelme()
    box = {"label": "crate", "shape_type": "rectangle", "points": [[2, 3], [5, 7]]}
    (root / "labels/a.json").write_text(json.dumps(content | {"shapes": [box]}))
    label = own(root, labels="labels/*.json")[0]["label"]
    assert (label[3:8, 2:6] == 1).all()
    assert (label != IGNORE).sum() == 5 * 4


@pytest.mark.remedy("data/outlines.py::Outlines.draw")
def test_a_mask_of_another_size_is_refused(root):
    content = coco(["a.jpg"])
    height, width = IDS.shape
    content["annotations"][0]["segmentation"] = {"size": [width, height], "counts": [0, height * width]}
    (root / "all.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"a mask of \[{width}, {height}\] in an image of \[{height}, {width}\]"):
        own(root, labels="all.json")[0]
    content["annotations"][0]["segmentation"]["size"] = [height, width]
    (root / "all.json").write_text(json.dumps(content))
    assert (own(root, labels="all.json")[0]["label"] != IGNORE).any()


def test_a_colour_far_from_all_is_not_proposed_to_be_near(root):
    trees.write_label(root / "labels/a.png", np.full((*IDS.shape, 3), 255, np.uint8))
    with pytest.raises(ValueError, match=r"give a class this colour, or map it in ids as a class or as ignore$"):
        own(root, encoding="colours")[0]


def pairs(root) -> Folder:
    return own(root, images="", labels="", pairs="pairs.csv")


def test_pairs_in_a_file_of_any_names(root):
    trees.write_label(root / "labels/x.png", IDS)
    trees.write_label(root / "labels/y.png", np.full_like(IDS, 1))
    trees.write_image(root / "photos/b.jpg")
    lines = "\ufeffimage,label,split\n./photos/a.jpg,labels/x.png,all\nphotos/b.jpg,labels/y.png,test\n"
    (root / "pairs.csv").write_text(lines, encoding="utf-8")
    dataset = pairs(root)
    assert dataset.names == ["photos/a"]
    np.testing.assert_array_equal(dataset[0]["label"], IDS)
    (root / "pairs.csv").write_text("image,label\nphotos/b.jpg,labels/y.png\nphotos/a.jpg,labels/x.png\n")
    assert pairs(root).names == ["photos/a", "photos/b"]
    (root / "pairs.csv").write_text("image,label\nphotos/b.jpg,gone.png\nphotos/a.jpg,labels/x.png\n")
    with pytest.raises(FileNotFoundError, match=r"photos/b.jpg has no label \(1 of 3 files"):
        pairs(root)


@pytest.mark.remedy("data/layout.py::PairList.files")
@pytest.mark.parametrize(
    "lines",
    [
        "",
        "photos/a.jpg,labels/a.png\n",
        "image,label\nphotos/a.jpg\n",
        "\0\1\n2\n",
        "image,label,split\nphotos/a.jpg,labels/a.png,all\nphotos/a.jpg,labels/a.png\n",  # of no split
    ],
)
def test_a_list_of_pairs_that_is_none(root, lines):
    trees.write_label(root / "labels/a.png", IDS)
    (root / "pairs.csv").write_text(lines)
    with pytest.raises(
        ValueError, match="pairs.csv: a field is missing; begin with a line image,label and fill each row"
    ):
        pairs(root)
    (root / "pairs.csv").write_text("image,label\nphotos/a.jpg,labels/a.png\n")
    assert len(pairs(root)) == 1


def convert(root, *words: str) -> int:
    """Run the command and return its status."""
    given = ["convert", "labels", str(root), str(root / "maps"), "--images", "photos/*.jpg", "--labels", "labels/*.png"]
    try:
        main([*given, "--classes", json.dumps(CLASSES), *words])
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.remedy("convert/labels.py::write_maps")
@pytest.mark.remedy("convert/labels.py::main")
def test_convert_writes_maps_that_need_no_options(root, capsys):
    trees.write_image(root / "photos/b/c.jpg")
    for name in ("a", "b/c"):
        trees.write_label(root / f"labels/{name}.png", class_list(CLASSES).colourise(IDS))
    words = ["--encoding", "colours"]
    assert convert(root, *words, "--ids", '{"#5a5a5a": crate}') == 0
    assert "2 maps of train ids 0-2" in capsys.readouterr().out
    assert {path.relative_to(root / "maps").as_posix() for path in (root / "maps").rglob("*.png")} == {
        "a.png",
        "b/c.png",
    }
    expected = np.where(IDS == 0, 1, IDS)
    np.testing.assert_array_equal(own(root, labels="maps/*.png")[1]["label"], expected)
    assert convert(root, *words) == 1
    assert "maps already exists: move it away" in capsys.readouterr().err
    (root / "maps").rename(root / "away")
    trees.write_label(root / "labels/b/c.png", IDS)
    for wrong, message in (
        (words, "b/c.png: '#010101'"),
        (["--encode", "x"], "`ppar convert labels --help` lists the"),
    ):
        assert convert(root, *wrong) == 1
        assert message in capsys.readouterr().err
    assert {path.name for path in root.iterdir()} == {"photos", "labels", "away"}
    assert convert(root, "--help") == 0
    assert "--encoding {ids,colours}" in capsys.readouterr().out
    trees.write_label(root / "labels/b/c.png", class_list(CLASSES).colourise(IDS))
    assert convert(root, *words) == 0


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jpeg"])
def test_images_of_every_kind_that_predict_reads(root, suffix):
    with Image.open(root / "photos/a.jpg") as picture:
        picture.save(root / f"photos/a{suffix}")
    (root / "photos/a.jpg").unlink()
    trees.write_label(root / "labels/a.png", IDS)
    assert own(root, images=f"photos/*{suffix}")[0]["image"].shape == (48, 80, 3)
