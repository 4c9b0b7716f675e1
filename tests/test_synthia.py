"""SYNTHIA: 16-bit labels, and the two splits."""

import re

import numpy as np
import pytest
import trees
from PIL import Image

from ppar_lightning.data.datamodule import SYNTHIA_13, SYNTHIA_16
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.synthia import SYNTHIA
from ppar_lightning.images.classes import CITYSCAPES


def test_synthia_label_survives_where_pillow_loses_it(tmp_path):
    root = trees.synthia(tmp_path, ids=[21, 3])
    with Image.open(root / "GT/LABELS/0000000.png") as file:
        assert np.asarray(file)[..., 0].max() == 0  # Pillow keeps the high byte
    label = DATASETS["synthia"](root=root, split="all", domain="s")[0]["label"]
    np.testing.assert_array_equal(label, trees.stripes([3, 0]))


def test_synthia_reads_beside_labels_of_other_tools(tmp_path):
    root = trees.synthia(tmp_path)
    trees.write_label(root / "GT/LABELS/0000000_labelTrainIds.png", trees.stripes([0]))
    assert len(DATASETS["synthia"](root=root, split="all", domain="s")) == 10


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_corrupt_synthia_label_is_named(tmp_path, share):
    path = trees.synthia(tmp_path) / "GT/LABELS/0000003.png"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(
        ValueError, match=r"GT/LABELS/0000003.png: no label that can be decoded.*; restore it from where it came from"
    ):
        DATASETS["synthia"](root=tmp_path, split="all", domain="s")[3]


def test_synthia_label_of_another_kind_is_named(tmp_path):
    path = trees.synthia(tmp_path) / "GT/LABELS/0000003.png"
    trees.write_label(path, trees.stripes([3]))
    dataset = DATASETS["synthia"](root=tmp_path, split="all", domain="s")
    with pytest.raises(ValueError, match=r"0000003.png: not the RGB file"):
        dataset[3]
    trees.write_image(path)
    with pytest.raises(ValueError, match=r"0000003.png: label value .* ids 0, .*, 22"):
        dataset[3]


def test_synthia_split_follows_robustnets_lists_where_they_are(tmp_path, monkeypatch):
    own = {split: DATASETS["synthia"](trees.synthia(tmp_path), split, "s") for split in ("train", "val")}
    assert [name[-1] for name in own["val"].names] == ["7", "8", "9"]
    assert sorted(own["train"].names + own["val"].names) == [f"{number:07d}" for number in range(10)]
    assert all("by last digit, not RobustNet's" in dataset.remarks[0] for dataset in own.values())
    trees.synthia(tmp_path, lists=True)
    (remark,) = DATASETS["synthia"](tmp_path, "val", "s").remarks
    assert re.match(r"5 images of split 'val' in .*, 2820 are known; extract the rest, or get the whole list", remark)
    monkeypatch.setattr(SYNTHIA, "counts", {"train": 5, "val": 5})
    for split, first in (("train", 0), ("val", 1)):
        dataset = DATASETS["synthia"](tmp_path, split, "s")
        assert dataset.names == [f"{number:07d}" for number in range(first, 10, 2)]
        assert dataset.remarks == []
    for folder in ("RGB", "GT/LABELS"):
        (tmp_path / folder / "0000004.png").unlink()
    assert "4 images of split 'train'" in DATASETS["synthia"](tmp_path, "train", "s").remarks[0]


def test_synthia_own_split_has_the_published_sizes():
    names = [f"{number:07d}" for number in range(9400)]
    assert sum(name[-1] in "789" for name in names) == 2820


def test_synthia_is_scored_over_sixteen_classes():
    assert [name for name in CITYSCAPES if name not in SYNTHIA_16] == ["terrain", "truck", "train"]
    assert [name for name in SYNTHIA_16 if name not in SYNTHIA_13] == ["wall", "fence", "pole"]
    assert (len(SYNTHIA_16), len(SYNTHIA_13)) == (16, 13)
    assert DATASETS["synthia"].scored_classes == SYNTHIA_16
