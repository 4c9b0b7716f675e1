"""Mapillary Vistas: both mappings, portrait images, and v2.0 that is not v1.2."""

import json
import shutil

import numpy as np
import pytest
import trees

from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.mapillary import MAPPINGS
from ppar_lightning.images.classes import IGNORE


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


def test_mapillary_of_both_versions_is_read_by_v1_2(tmp_path):
    root = trees.mapillary(tmp_path, nested=True)
    (root / "config_v2.0.json").write_text(json.dumps({"labels": [{}] * 124}))
    for path in (root / "validation/v1.2/labels").iterdir():
        trees.write_label(root / "validation/v2.0/labels" / path.name, trees.stripes([123]))
    assert DATASETS["mapillary"](root=root, split="validation", domain="m")[0]["label"].min() == 0
    shutil.rmtree(root / "validation/v1.2")
    with pytest.raises(
        FileNotFoundError, match=r"expected .*, or validation/images/\*.jpg and validation/labels/\*.png"
    ):
        DATASETS["mapillary"](root=root, split="validation", domain="m")


def test_mapillary_ids_above_65_hint_at_v2(tmp_path):
    root = trees.mapillary(tmp_path)
    trees.write_label(root / "validation/labels/validation_0.png", trees.stripes([65, 66]))
    with pytest.raises(ValueError, match=r"label value 66 .* ids 0, .*, 65; v2.0 has other ids"):
        DATASETS["mapillary"](root=root, split="validation", domain="m")[0]
    trees.write_label(root / "validation/v1.2/labels/validation_0.png", trees.stripes([65]))
    for number in (1, 2):
        shutil.copy(root / f"validation/labels/validation_{number}.png", root / "validation/v1.2/labels")
    assert DATASETS["mapillary"](root=root, split="validation", domain="m")[0]["label"].min() == IGNORE
