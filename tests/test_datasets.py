"""Data sets as they are downloaded: layouts, ids and bad files."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import trees
from scipy.io import savemat

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.gta5 import FAULTY, GTA5
from ppar_lightning.data.datasets.mapillary import MAPPINGS
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CITYSCAPES, IGNORE

SHARED = Path(__file__).parents[2] / "shared" / "data"
TRAIN_IDS = (*range(19), IGNORE)
CITYSCAPES_IDS = "7>0 8>1 11>2 12>3 13>4 17>5 19>6 20>7 21>8 22>9 23>10 24>11 25>12 26>13 27>14 28>15 31>16 32>17 33>18"
SYNTHIA_IDS = "3>0 4>1 2>2 21>3 5>4 7>5 15>6 9>7 6>8 16>9 1>10 10>11 17>12 8>13 18>14 19>15 20>16 12>17 11>18"
SYNTHIA_TRAIN_IDS = [
    {int(i): int(k) for i, k in re.findall(r"(\d+)>(\d+)", SYNTHIA_IDS)}.get(i, IGNORE) for i in range(23)
]
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not in ../shared/data")


def cityscapes_ids(ids):
    known = {int(i): int(k) for i, k in re.findall(r"(\d+)>(\d+)", CITYSCAPES_IDS)}
    return [known.get(label_id, IGNORE) for label_id in ids]


@pytest.mark.parametrize(
    ("key", "split", "tree", "count", "expected"),
    [
        ("gta", "train", {}, 5, cityscapes_ids(range(35))),
        ("gta", "val", {}, 4, cityscapes_ids(range(35))),
        ("gta", "test", {}, 1, cityscapes_ids(range(35))),
        ("gta", "all", {"split_mat": False}, 10, cityscapes_ids(range(35))),
        ("gta", "all", {"train_ids": 10}, 10, cityscapes_ids(range(35))),  # mmseg's files lie beside the raw ones
        ("gta", "train", {"train_ids": 4}, 5, cityscapes_ids(range(35))),
        ("gta", "train", {"train_ids": 10, "raw": False}, 5, TRAIN_IDS),
        ("synthia", "all", {}, 10, SYNTHIA_TRAIN_IDS),
        ("synthia", "train", {}, 7, SYNTHIA_TRAIN_IDS),
        ("synthia", "val", {}, 3, SYNTHIA_TRAIN_IDS),
        ("synthia", "val", {"lists": True}, 5, SYNTHIA_TRAIN_IDS),
        ("urbansyn", "all", {}, 3, TRAIN_IDS),
        ("cityscapes", "train", {}, 6, cityscapes_ids((*range(34), 255))),
        ("cityscapes", "val", {"suffix": ".jpg"}, 3, cityscapes_ids((*range(34), 255))),
        ("cityscapes", "val", {"kind": "labelTrainIds", "ids": TRAIN_IDS}, 3, TRAIN_IDS),
        ("bdd100k", "train", {}, 6, TRAIN_IDS),
        ("bdd100k", "val", {"old": True}, 3, TRAIN_IDS),
        ("mapillary", "training", {}, 6, [MAPPINGS["robustnet"][i] for i in range(66)]),
        ("mapillary", "validation", {"nested": True}, 3, [MAPPINGS["robustnet"][i] for i in range(66)]),
        ("idd", "train", {}, 6, TRAIN_IDS),
        ("idd", "val", {}, 3, TRAIN_IDS),
        ("acdc", "train", {}, 8, TRAIN_IDS),
        ("acdc", "val", {"zips": True}, 4, TRAIN_IDS),
        ("acdc_fog", "train", {"conditions": ["fog", "snow"]}, 2, TRAIN_IDS),
        ("acdc_night", "val", {}, 1, TRAIN_IDS),
        ("acdc_rain", "val", {"zips": True}, 1, TRAIN_IDS),
        ("acdc_snow", "val", {"kinds": ["labelIds"]}, 1, cityscapes_ids((*range(34), 255))),
        ("dark_zurich", "val", {}, 3, TRAIN_IDS),
        ("nighttime_driving", "test", {}, 3, TRAIN_IDS),
        ("nighttime_driving", "test", {"kinds": ["labelIds"]}, 3, cityscapes_ids(range(34))),
        ("foggy_zurich", "testv2", {}, 3, TRAIN_IDS),
        ("foggy_zurich", "testv1", {"kinds": ["labelIds"]}, 1, cityscapes_ids(range(34))),
        ("foggy_driving", "testall", {}, 5, TRAIN_IDS),
        ("foggy_driving", "testfine", {}, 2, TRAIN_IDS),
        ("foggy_driving", "testdense", {}, 1, TRAIN_IDS),
        ("muses", "train", {}, 16, TRAIN_IDS),
        ("muses", "val", {"top": "muses", "kinds": ["labelIds"]}, 8, cityscapes_ids(range(34))),
        ("wilddash2", "all", {}, 3, [*cityscapes_ids(range(34)), 13, 13, IGNORE, IGNORE, 0, IGNORE]),
        ("kitti", "training", {}, 3, cityscapes_ids(range(34))),
        ("kitti", "training", {"scene_flow": True}, 3, cityscapes_ids(range(34))),
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


def test_camvid_is_scored_over_the_classes_it_has(tmp_path):
    lacking = {"wall", "traffic light", "terrain", "truck", "bus", "train", "motorcycle", "bicycle"}
    camvid = DATASETS["camvid"](trees.camvid(tmp_path), "test", "c")
    assert [*camvid.scored_classes] == [name for name in CITYSCAPES if name not in lacking]
    assert DATASETS["cityscapes"].scored_classes == CITYSCAPES


def test_gta_label_of_another_size_is_resized(tmp_path):
    root = trees.gta5(tmp_path)
    trees.write_label(root / "labels/00001.png", trees.stripes([7, 8, 11], (46, 80)), palette=True)
    label = DATASETS["gta"](root=root, split="train", domain="gta")[0]["label"]
    np.testing.assert_array_equal(label, trees.stripes([0, 1, 2]))


@pytest.mark.remedy("data/datasets/gta5.py::GTA5.select")
@pytest.mark.parametrize("remedy", ["put it there", "set train_split and eval_split to all"])
def test_gta_without_split_mat_names_the_remedies(tmp_path, remedy):
    root = trees.gta5(tmp_path, split_mat=False)
    options = {"train_split": "all", "eval_split": "all"}
    missing = {"gta": Domain(root=str(root))}
    with pytest.raises(FileNotFoundError, match=rf"split.mat not found.*{remedy}.*--data.sources.gta"):
        DomainDataModule(missing, workers=0).setup("fit")
    if remedy == "put it there":
        trees.gta5(tmp_path)
        options = {}
    data = DomainDataModule({"gta": Domain(root=str(root), **options)}, workers=0)
    data.setup("fit")
    assert len(data.train_splits["gta"]) == (5 if remedy == "put it there" else 10)


@pytest.mark.remedy("data/dataset.py::FolderDataset.__init__")
def test_a_split_that_a_data_set_does_not_have(tmp_path):
    root = trees.gta5(tmp_path)
    with pytest.raises(
        ValueError, match="no split 'training'; choose one of train, val, test, train_robustnet, all"
    ) as e:
        DATASETS["gta"](root=root, split="training", domain="gta")
    for split in str(e.value).rpartition("one of ")[2].split(", "):
        assert len(DATASETS["gta"](root=root, split=split, domain="gta"))


@pytest.mark.remedy("data/datasets/gta5.py::GTA5.select")
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_a_split_mat_that_lists_nothing_is_named(tmp_path, content):
    root = trees.gta5(tmp_path)
    if content is None:
        savemat(root / "split.mat", {"train": [1]})
    else:
        (root / "split.mat").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"split.mat holds no valIds; download it again, or set train_split and eval_spl"
    ):
        DATASETS["gta"](root=root, split="val", domain="gta")
    assert len(DATASETS["gta"](root=root, split="all", domain="gta")) == 10
    trees.gta5(tmp_path)
    assert len(DATASETS["gta"](root=root, split="val", domain="gta")) == 4


def test_a_short_list_is_a_remark(tmp_path):
    (remark,) = DATASETS["gta"](root=trees.gta5(tmp_path), split="val", domain="gta").remarks
    assert remark.startswith("4 images of split 'val' in")
    assert ", 6382 are known; extract the rest, or get the whole list" in remark


def test_hidden_files_are_no_samples(tmp_path):
    root = trees.camvid(tmp_path)
    for folder in ("test", "testannot"):
        for path in list((root / folder).iterdir()):
            path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    assert len(DATASETS["camvid"](root=root, split="test", domain="c")) == 3


def test_gta_frames_that_the_download_lacks_are_a_remark(tmp_path, monkeypatch):
    root = trees.gta5(tmp_path)
    monkeypatch.setattr(GTA5, "counts", {"train": 5})
    for folder in ("images", "labels"):
        (root / folder / "00002.png").unlink()
    dataset = DATASETS["gta"](root=root, split="train", domain="gta")
    assert dataset.names == ["00001", "00003", "00004", "00005"]
    (remark,) = dataset.remarks
    assert remark.startswith("4 images of split 'train' in")
    assert ", 5 are known, and 00002 is listed but absent; extract the rest" in remark


def test_gta_robustnet_train_list_leaves_out_fifteen_frames(tmp_path, monkeypatch):
    left_out = {12160, 12166, 12167, 12191, 12192, 12193, 12195, *range(12202, 12209), 19993}
    assert set(FAULTY) == left_out
    numbers = [12159, 12160, 12194, 12195, 12196, 12208, 12209, 19993]
    for number in numbers:
        trees.write_image(tmp_path / f"images/{number}.png")
        trees.write_label(tmp_path / f"labels/{number}.png", trees.stripes([7]), palette=True)
    savemat(tmp_path / "split.mat", {"trainIds": np.array(numbers)[:, None], "valIds": [[1]], "testIds": [[2]]})
    monkeypatch.setattr(GTA5, "counts", {"train": 8, "train_robustnet": 4})
    for split, expected in (("train", numbers), ("train_robustnet", [12159, 12194, 12196, 12209])):
        dataset = DATASETS["gta"](root=tmp_path, split=split, domain="gta")
        assert [int(name) for name in dataset.names] == expected
        assert dataset.remarks == []


@pytest.mark.remedy("data/dataset.py::FolderDataset.__init__")
@pytest.mark.parametrize(("gone", "other"), [("images", "image"), ("labels", "label")])
def test_files_without_a_counterpart_are_counted(tmp_path, gone, other):
    trees.gta5(tmp_path)
    for number in (3, 5):
        (tmp_path / gone / f"0000{number}.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"00003.png has no {other} \(2 of 8 .* --data.on_bad_sample skip leaves"
    ):
        DATASETS["gta"](root=tmp_path, split="train", domain="gta")
    assert len(DATASETS["gta"](root=tmp_path, split="val", domain="gta")) == 4  # all of its own files are there
    dataset = DATASETS["gta"](root=tmp_path, split="all", domain="gta", on_bad_sample="skip")
    assert len(dataset) == len(dataset.pairs) == 8
    assert [line.split(" has ")[1] for line in dataset.unpaired] == [f"no {other}"] * 2
    assert any(f"00003.png has no {other} (2 of 18" in remark for remark in dataset.remarks)
    left = {"images": "labels", "labels": "images"}[gone]
    for number in (3, 5):
        (tmp_path / left / f"0000{number}.png").rename(tmp_path / f"{number}.png")
    assert len(DATASETS["gta"](root=tmp_path, split="train", domain="gta")) == 3
    trees.gta5(tmp_path)
    assert len(DATASETS["gta"](root=tmp_path, split="train", domain="gta")) == 5


@pytest.mark.remedy("data/dataset.py::FolderDataset.__init__")
def test_files_that_are_all_alone_are_never_skipped(tmp_path):
    trees.write_image(tmp_path / "test/a.png")
    trees.write_label(tmp_path / "testannot/b.png", trees.stripes([3]))
    with pytest.raises(FileNotFoundError, match="a.png has no label .*; give an image and its label one name: test/"):
        DATASETS["camvid"](root=tmp_path, split="test", domain="c", on_bad_sample="skip")
    (tmp_path / "testannot/b.png").rename(tmp_path / "testannot/a.png")
    assert len(DATASETS["camvid"](root=tmp_path, split="test", domain="c")) == 1


@pytest.mark.remedy("data/dataset.py::FolderDataset.__init__")
@pytest.mark.remedy("data/dataset.py::FolderDataset.__init__")
@pytest.mark.parametrize("key", list(trees.TREES))
def test_missing_or_wrong_folder_tells_the_layout(tmp_path, key):
    split = DATASETS[key].eval_split
    for root, fault in (
        (None, "root is None"),
        (tmp_path / "gone", f"root is {tmp_path / 'gone'}, which is no folder"),
        (tmp_path, f"no labelled images of split {split!r}"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"{fault}.*expected .* and .*\*") as caught:
            DATASETS[key](root=root, split=split, domain="x")
        assert "\n" not in str(caught.value)
    assert len(DATASETS[key](root=trees.TREES[key](tmp_path), split=split, domain="x"))


@pytest.mark.parametrize("key", list(trees.TREES))
def test_images_encoded_again_as_jpeg_are_read(tmp_path, key):
    root = trees.TREES[key](tmp_path)
    split = DATASETS[key].eval_split
    before = DATASETS[key](root=root, split=split, domain=key)
    for image, _ in before.pairs:
        cv2.imwrite(str(image.with_suffix(".JPG")), cv2.imread(str(image)))
        image.unlink()
    after = DATASETS[key](root=root, split=split, domain=key)
    assert after.names == before.names
    assert {image.suffix for image, _ in after.pairs} == {".JPG"}
    assert after[0]["image"].shape == (*trees.SIZE, 3)


@pytest.mark.remedy("data/layout.py::by_name")
def test_one_sample_in_two_files_is_an_error(tmp_path):
    path = trees.kitti(tmp_path) / "training/image_2/000001_10.jpg"
    trees.write_image(path)
    with pytest.raises(ValueError, match=r"000001_10\.... and .*000001_10\.... are one sample; remove one"):
        DATASETS["kitti"](root=tmp_path, split="training", domain="kitti")
    path.unlink()
    assert len(DATASETS["kitti"](root=tmp_path, split="training", domain="kitti")) == 3


def test_known_counts_are_those_of_the_documentation():
    counts = {key: dict(DATASETS[key].counts) for key in trees.TREES if DATASETS[key].counts}
    condition = {"train": 400, "val": 100}
    assert counts == {
        "gta": {"train": 12403, "val": 6382, "test": 6181, "train_robustnet": 12388, "all": 24966},
        "synthia": {"train": 6580, "val": 2820, "all": 9400},
        "cityscapes": {"train": 2975, "val": 500},
        "bdd100k": {"train": 7000, "val": 1000},
        "mapillary": {"training": 18000, "validation": 2000},
        "acdc": {"train": 1600, "val": 406},
        "acdc_fog": condition,
        "acdc_night": {"train": 400, "val": 106},
        "acdc_rain": condition,
        "acdc_snow": condition,
        "dark_zurich": {"val": 50},
        "nighttime_driving": {"test": 50},
        "foggy_zurich": {"testv2": 40, "testv1": 16},
        "foggy_driving": {"testall": 101, "testfine": 33, "testdense": 21},
        "muses": {"train": 1500, "val": 250},
        "wilddash2": {"all": 4256},
        "kitti": {"training": 200},
        "camvid": {"train": 367, "val": 101, "test": 233},
    }
    assert 12403 + 6382 + 6181 == 24966
    assert len(FAULTY) == 12403 - 12388


def test_another_count_than_the_known_one_is_a_remark(tmp_path, monkeypatch):
    root = trees.kitti(tmp_path)
    (remark,) = DATASETS["kitti"](root=root, split="training", domain="kitti").remarks
    assert remark.startswith("3 images of split 'training' in")
    assert "200 are known; extract the rest" in remark
    monkeypatch.setattr(DATASETS["kitti"], "counts", {"training": 3})
    assert DATASETS["kitti"](root=root, split="training", domain="kitti").remarks == []
    assert DATASETS["idd"](root=trees.idd(tmp_path), split="val", domain="idd").remarks == []  # no number is known


def test_domain_warns_of_remarks_by_name(tmp_path):
    domain = Domain(dataset="kitti", root=str(trees.kitti(tmp_path)))
    data = DomainDataModule({"karlsruhe": domain}, workers=0)
    with pytest.warns(UserWarning, match="domain 'karlsruhe': 3 images .* 200 are known"):
        data.setup("validate")
    assert len(data.eval_splits["karlsruhe"]) == 3


def test_domain_hands_on_bad_sample_to_folders_alone(tmp_path):
    (trees.kitti(tmp_path) / "training/semantic/000001_10.png").unlink()
    domain = Domain(dataset="kitti", root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="000001_10.png has no label"):
        domain.open("kitti", "eval")
    split = domain.open("kitti", "eval", on_bad_sample="skip")
    assert len(split) == 2
    assert any(re.search("000001_10.png has no label .* and left out", line) for line in split.remarks)
    assert len(Domain().open("fog", "eval", on_bad_sample="skip")) > 0


# SYNTHIA: 16-bit labels


# Sets that are labelled in part, by lists, by condition or by segments


@pytest.mark.remedy("data/datasets/foggy.py::FoggyZurich.select")
def test_a_list_that_is_missing_is_named(tmp_path):
    path = trees.foggy_zurich(tmp_path) / "lists_file_names/RGB_testv2_filenames.txt"
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match="RGB_testv2_filenames.txt not found, which lists split 'testv2'; restore"
    ):
        DATASETS["foggy_zurich"](root=tmp_path, split="testv2", domain="z")
    (tmp_path / "elsewhere").rename(path)
    assert len(DATASETS["foggy_zurich"](root=tmp_path, split="testv2", domain="z")) == 3


def test_muses_takes_each_condition_for_a_domain(tmp_path):
    trees.muses(tmp_path)
    names = [name for name in DATASETS if name.startswith("muses_")]
    assert len(names) == 8
    together = Domain(root=str(tmp_path)).open("muses", "eval").whole
    keys = {together.image_key(index) for index in range(len(together))}
    for name in names:
        dataset = Domain(root=str(tmp_path)).open(name, "eval").whole
        (image,) = [image for image, _ in dataset.pairs]
        assert image.relative_to(tmp_path).parts[:4] == ("frame_camera", "val", *name.split("_")[1:])
        keys.remove(dataset.image_key(0))
    assert keys == set()
    with pytest.raises(FileNotFoundError, match="no labelled images of split 'test'"):
        DATASETS["muses_fog_night"](root=tmp_path, split="test", domain="m")


@pytest.mark.remedy("data/datasets/wilddash.py::WildDash2.__init__")
@pytest.mark.parametrize("content", [None, "{", '{"images": []}'])
def test_a_panoptic_json_that_names_no_segments(tmp_path, content):
    path = trees.wilddash2(tmp_path) / "panoptic.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match="panoptic.json does not name the segments of the labels .*; restore it"):
        DATASETS["wilddash2"](root=tmp_path, split="all", domain="w")
    trees.wilddash2(tmp_path)
    assert len(DATASETS["wilddash2"](root=tmp_path, split="all", domain="w")) == 3


def test_a_segment_without_a_category_is_an_error(tmp_path):
    trees.wilddash2(tmp_path, ids=[7, 26])
    path = tmp_path / "panoptic.json"
    path.write_text(path.read_text().replace("65531", "65532"))
    dataset = DATASETS["wilddash2"](root=tmp_path, split="all", domain="w")
    with pytest.raises(ValueError, match=r"aa0000_100000.png: label value -1 .*-1 is a segment .*get both again"):
        dataset.read_label(0)
    trees.wilddash2(tmp_path)
    again = DATASETS["wilddash2"](root=tmp_path, split="all", domain="w")
    assert again.code != dataset.code
    np.testing.assert_array_equal(np.unique(again.read_label(0)), TRAIN_IDS)


# ACDC and Mapillary: look-alikes in the same folder


def test_acdc_takes_each_condition_for_itself_and_all_together(tmp_path):
    trees.acdc(tmp_path)
    together = DATASETS["acdc"](root=tmp_path, split="train", domain="acdc")
    assert [name.split("/")[0] for name in together.names] == [
        c for c in ("fog", "night", "rain", "snow") for _ in "ab"
    ]
    for condition in ("fog", "night", "rain", "snow"):
        dataset = DATASETS[f"acdc_{condition}"](root=tmp_path, split="train", domain="x")
        assert {image.relative_to(tmp_path).parts[:3] for image, _ in dataset.pairs} == {
            ("rgb_anon", condition, "train")
        }
        assert {label.name.split("_gt_")[1] for _, label in dataset.pairs} == {"labelTrainIds.png"}
    with pytest.raises(FileNotFoundError, match="no labelled images of split 'test'"):
        DATASETS["acdc"](root=tmp_path, split="test", domain="acdc")


# A folder of one's own


def test_procedural_domains_are_in_the_table():
    sample = DATASETS["fog"](root=None, split="val", domain="fog", size=[64, 128], length=3)[2]
    assert sample["image"].shape == (64, 128, 3)
    assert sample["label"].shape == (64, 128)


@pytest.mark.remedy("data/datasets/streets.py::ProceduralStreets.__init__")
@pytest.mark.remedy("data/datasets/streets.py::ProceduralStreets.__init__")
@pytest.mark.remedy("data/datasets/streets.py::ProceduralStreets.__init__")
@pytest.mark.remedy("data/datasets/streets.py::ProceduralStreets.read")
@pytest.mark.parametrize(
    ("wrong", "message", "right"),
    [
        ({"root": "somewhere"}, "read no folder; leave root out", {}),
        ({"split": "test"}, "no split 'test'; choose one of train, val", {"split": "train"}),
        ({"length": 0}, "length is 0 and .*; give at least 1 street", {"length": 1}),
        ({"length": 3, "index": 3}, "no street 3; give 0 to 2", {"length": 3, "index": 2}),
    ],
)
def test_faults_in_the_options_of_rendered_streets(wrong, message, right):
    def rendered(index: int = 0, **options: object) -> dict:
        return DATASETS["fog"](**{"root": None, "split": "val", "domain": "fog"} | options)[index]

    with pytest.raises((ValueError, IndexError), match=message):
        rendered(**wrong)
    assert rendered(**right)["image"].ndim == 3


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


def test_the_home_is_expanded(tmp_path, monkeypatch):
    trees.camvid(tmp_path / "camvid")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Domain(root="~/camvid").open("camvid", "eval")) == 3


@pytest.mark.remedy("data/domain.py::Domain._options")
@pytest.mark.parametrize(
    ("name", "options", "said", "right"),
    [
        ("fog", {"length": "abc"}, "\"length\": .*<class 'int'>.*; it takes length, size", {"length": 2}),
        ("fog", {"length": 0}, "length is 0 .*; give at least 1 street", {"length": 1}),
        ("fog", {"size": 3}, '"size": Expected a .*tuple.*; it takes length, size', {"size": [64, 128]}),
        ("fog", {"size": [64]}, '"size": Expected a tuple with 2 elements', {"size": [64, 128]}),
        ("fog", {"size": [64, 0]}, "size .64, 0.; give at least 1 street and 1 pixel a side", {"size": [64, 128]}),
        ("fog", {"split": 3}, "data set 'fog': Option 'split' is not accepted; it takes length, size", {}),
        ("kitti", {"split": "x"}, "data set 'kitti': Option 'split' is not accepted; it takes none", {}),
        ("mapillary", {"mapping": "v2"}, "data set 'mapillary': .*'rein'.* Got value: v2", {"mapping": "rein"}),
    ],
)
def test_options_of_a_wrong_type_are_named(tmp_path, name, options, said, right):
    root = str(trees.TREES[name](tmp_path)) if name in trees.TREES else None
    with pytest.raises(ValueError, match=said):
        Domain(root=root, options=options).open(name, "eval")
    assert len(Domain(root=root, options=right).open(name, "eval"))


@pytest.mark.remedy("data/domain.py::Domain.split")
def test_a_data_set_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="no data set 'citiscapes'; choose one of gta, .*domain.dataset") as caught:
        Domain(root=str(trees.cityscapes(tmp_path))).open("citiscapes", "eval")
    assert "cityscapes" in str(caught.value).split(", ")
    assert len(Domain(root=str(tmp_path), dataset="cityscapes").open("citiscapes", "eval")) == 3


@pytest.mark.remedy("data/domain.py::Domain.open")
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(limit):
    with pytest.raises(ValueError, match=f"limit is {limit}; give at least 1"):
        Domain(limit=limit).open("fog", "eval")
    assert len(Domain(limit=1).open("fog", "eval")) == 1
    assert len(Domain().open("fog", "eval")) > 1
