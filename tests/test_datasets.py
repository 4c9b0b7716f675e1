"""Data sets as they are downloaded: layouts, ids and bad files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import trees
from PIL import Image

from ppar_lightning.data.classes import CITYSCAPES_LABEL_IDS, CLASSES, IGNORE
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.mapillary import MAPPINGS
from ppar_lightning.data.decoding import lookup_table, read_image, to_train_ids

SHARED = Path(__file__).parents[2] / "shared" / "data"
TRAIN_IDS = (*range(19), IGNORE)
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not in ../shared/data")


def cityscapes_ids(ids):
    return [CITYSCAPES_LABEL_IDS.get(label_id, IGNORE) for label_id in ids]


@pytest.mark.parametrize(
    ("key", "split", "tree", "count", "expected"),
    [
        ("gta", "train", {}, 5, cityscapes_ids(range(35))),
        ("gta", "val", {}, 4, cityscapes_ids(range(35))),
        ("gta", "test", {}, 1, cityscapes_ids(range(35))),
        ("gta", "all", {"split_mat": False}, 10, cityscapes_ids(range(35))),
        ("gta", "train", {"train_ids": True}, 5, TRAIN_IDS),
        ("cityscapes", "train", {}, 6, cityscapes_ids((*range(34), 255))),
        ("cityscapes", "val", {"suffix": ".jpg"}, 3, cityscapes_ids((*range(34), 255))),
        ("cityscapes", "val", {"kind": "labelTrainIds", "ids": TRAIN_IDS}, 3, TRAIN_IDS),
        ("bdd100k", "train", {}, 6, TRAIN_IDS),
        ("bdd100k", "val", {"old": True}, 3, TRAIN_IDS),
        ("mapillary", "training", {}, 6, [MAPPINGS["robustnet"][i] for i in range(66)]),
        ("mapillary", "validation", {"nested": True}, 3, [MAPPINGS["robustnet"][i] for i in range(66)]),
        ("camvid", "test", {}, 3, [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12, 255]),
    ],
)
def test_layout_and_ids(tmp_path, key, split, tree, count, expected):
    dataset = DATASETS[key](root=trees.TREES[key](tmp_path, **tree), split=split, domain="here")
    assert len(dataset) == count
    assert len({dataset[index]["name"] for index in range(count)}) == count
    sample = dataset[0]
    assert sample["domain"] == "here"
    assert sample["image"].shape == (*trees.SIZE, 3)
    assert sample["image"].dtype == sample["label"].dtype == np.uint8
    np.testing.assert_array_equal(sample["label"], trees.stripes(expected))


def test_images_are_rgb_and_belong_to_their_label(tmp_path):
    root = trees.cityscapes(tmp_path)
    path = root / "leftImg8bit/val/bochum/bochum_000002_000019_leftImg8bit.png"
    cv2.imwrite(str(path), np.full((*trees.SIZE, 3), (0, 0, 255), dtype=np.uint8))  # OpenCV writes BGR: pure red
    dataset = DATASETS["cityscapes"](root=root, split="val", domain="cityscapes")
    sample = dataset[dataset.names.index("bochum/bochum_000002_000019")]
    assert (sample["image"] == (255, 0, 0)).all()


def test_portrait_images_keep_their_size(tmp_path):
    dataset = DATASETS["mapillary"](root=trees.mapillary(tmp_path), split="validation", domain="m")
    assert [dataset[index]["image"].shape[:2] for index in range(2)] == [trees.SIZE, trees.SIZE[::-1]]


PROTOCOL = (
    "13,24,41>0; 2,15>1; 17>2; 6>3; 3>4; 45,47>5; 48>6; 50>7; 30>8; 29>9; 27>10; 19>11; 20,21,22>12; 55>13; 61>14; "
    "54>15; 58>16; 57>17; 52>18"
)
REIN_CHANGES = "7,8,10,14,23>0; 9,11>1; 44>5; 46,49>7; 41>255"


def entries(text):
    pairs = (entry.split(">") for entry in text.split(";"))
    return {int(label_id): int(train_id) for ids, train_id in pairs for label_id in ids.split(",")}


def test_mapillary_tables_entry_by_entry():
    robustnet = dict.fromkeys(range(66), IGNORE) | entries(PROTOCOL)
    expected = {"robustnet": robustnet, "rein": robustnet | entries(REIN_CHANGES)}
    assert expected == MAPPINGS


def test_mapillary_mapping_is_an_option(tmp_path):
    trees.mapillary(tmp_path)
    labels = [
        DATASETS["mapillary"](root=tmp_path, split="validation", domain="m", mapping=mapping)[0]["label"]
        for mapping in MAPPINGS
    ]
    raw = trees.stripes(range(66))
    np.testing.assert_array_equal(np.unique(raw[labels[0] != labels[1]]), [7, 8, 9, 10, 11, 14, 23, 41, 44, 46, 49])
    with pytest.raises(ValueError, match="no mapping 'v2'; choose one of robustnet, rein"):
        DATASETS["mapillary"](root=tmp_path, split="validation", domain="m", mapping="v2")


def test_camvid_is_scored_over_the_classes_it_has():
    lacking = {"wall", "traffic light", "terrain", "truck", "bus", "train", "motorcycle", "bicycle"}
    assert [CLASSES[k] for k in DATASETS["camvid"].scored_classes] == [c for c in CLASSES if c not in lacking]
    assert DATASETS["cityscapes"].scored_classes == tuple(range(19))


def test_gta_label_of_another_size_is_resized(tmp_path):
    root = trees.gta5(tmp_path)
    trees.write_label(root / "labels/00001.png", trees.stripes([7, 8, 11], (46, 80)), palette=True)
    label = DATASETS["gta"](root=root, split="train", domain="gta")[0]["label"]
    np.testing.assert_array_equal(label, trees.stripes([0, 1, 2]))


def test_any_other_size_mismatch_names_both_files(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_label(root / "testannot/0001TP_000000.png", trees.stripes(range(12), (24, 40)))
    with pytest.raises(ValueError, match=r"test/0001TP_000000.png is 80x48 but .*testannot/0001TP_000000.png is 40x24"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


def test_gta_without_split_mat_names_the_remedies(tmp_path):
    root = trees.gta5(tmp_path, split_mat=False)
    with pytest.raises(FileNotFoundError, match=r"split.mat not found.*put it there or set train_split to all"):
        DATASETS["gta"](root=root, split="train", domain="gta")
    with pytest.raises(ValueError, match="no split 'training'; choose one of train, val, test, all"):
        DATASETS["gta"](root=root, split="training", domain="gta")


def test_gta_frames_that_the_download_lacks_are_reported(tmp_path):
    root = trees.gta5(tmp_path)
    for folder in ("images", "labels"):
        (root / folder / "00002.png").unlink()
    with pytest.warns(UserWarning, match="1 of the 5 frames of split 'train' are absent, the first is 00002"):
        assert len(DATASETS["gta"](root=root, split="train", domain="gta")) == 4


def test_value_outside_the_table_names_file_and_value(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_label(root / "testannot/0001TP_000000.png", trees.stripes([0, 77, 3]))
    with pytest.raises(ValueError, match=r"testannot/0001TP_000000.png: label value 77 .* ids 0-11; check"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


def test_values_that_do_not_fit_a_byte_are_outside_the_table():
    table = lookup_table({0: 0, 44: 3})
    np.testing.assert_array_equal(to_train_ids(np.array([[0, 44]], np.uint16), table, Path("x")), [[0, 3]])
    for value in (300, -1):  # 300 is 44 in a byte
        with pytest.raises(ValueError, match=f"x: label value {value} "):
            to_train_ids(np.array([[0, value]], np.int32), table, Path("x"))


def test_colour_picture_as_label_is_refused(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_image(root / "testannot/0001TP_000000.png")
    with pytest.raises(ValueError, match=r"0001TP_000000.png: a colour picture, not a map of ids"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("file", ["images/10k/val/00000000-val.jpg", "labels/sem_seg/masks/val/00000000-val.png"])
def test_damaged_file_is_named(tmp_path, file, share):
    path = trees.bdd100k(tmp_path) / file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=rf"{path.name}: damaged .* file.*download or extract it again"):
        DATASETS["bdd100k"](root=tmp_path, split="val", domain="bdd100k")[0]


def test_damaged_png_is_named(tmp_path):
    path = tmp_path / "a.png"
    trees.write_image(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a.png: damaged image file"):
        read_image(path)


def test_orientation_tag_is_ignored(tmp_path):
    picture = Image.new("RGB", (30, 20))
    tags = picture.getexif()
    tags[274] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=tags)
    assert read_image(tmp_path / "a.jpg").shape == (20, 30, 3)


@pytest.mark.parametrize(("gone", "kind", "other"), [("images", "label", "image"), ("labels", "image", "label")])
def test_files_without_a_counterpart_are_counted(tmp_path, gone, kind, other):
    trees.gta5(tmp_path)
    for number in (3, 5):
        (tmp_path / gone / f"0000{number}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"00003.png has no {other} \(2 of 10 {kind}s\)"):
        DATASETS["gta"](root=tmp_path, split="train", domain="gta")


@pytest.mark.parametrize("key", list(trees.TREES))
def test_missing_or_wrong_folder_tells_the_layout(tmp_path, key):
    for root, fault in (
        (None, "no folder given"),
        (tmp_path / "gone", f"folder {tmp_path / 'gone'} not found"),
        (tmp_path, "no labelled images of split 'val'"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"{fault}.*expected .* and .*\*") as caught:
            DATASETS[key](root=root, split="val", domain="x")
        assert "\n" not in str(caught.value)


def test_procedural_domains_are_in_the_table():
    sample = DATASETS["fog"](root=None, split="val", domain="fog", size=[64, 128], length=3)[2]
    assert sample["image"].shape == (64, 128, 3)
    assert sample["label"].shape == (64, 128)
    with pytest.raises(ValueError, match="read no folder"):
        DATASETS["fog"](root="somewhere", split="val", domain="fog")
    with pytest.raises(ValueError, match="no split 'test'; choose one of train, val"):
        DATASETS["fog"](root=None, split="test", domain="fog")


@needs_shared
@pytest.mark.parametrize(
    ("key", "folder", "split", "count", "size"),
    [
        ("gta", "gta5", "all", 3, (1052, 1914)),
        ("cityscapes", "cityscapes", "val", 4, (1024, 2048)),
        ("cityscapes", "cityscapes_256", "train", 2974, (128, 256)),
        ("cityscapes", "cityscapes_256", "val", 250, (128, 256)),
        ("camvid", "camvid", "test", 233, (360, 480)),
    ],
)
def test_real_files(key, folder, split, count, size):
    dataset = DATASETS[key](root=SHARED / folder, split=split, domain=key)
    assert len(dataset) == count
    sample = dataset[count // 2]
    assert sample["image"].shape == (*size, 3)
    assert sample["label"].shape == size
    bottom, top = sample["label"][size[0] * 3 // 4 :], sample["label"][: size[0] // 4]
    ground, above = (0, 1), (2, 5, 6, 7, 8, 10)
    assert np.isin(bottom[bottom != IGNORE], ground).mean() > 0.5
    assert np.isin(top[top != IGNORE], above).mean() > 0.9
