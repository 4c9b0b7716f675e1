"""Lists of classes, and what happens where two of them meet."""

import re
from pathlib import Path

import numpy as np
import pytest
import trees
import yaml

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.scored_classes import scored_as
from ppar_lightning.data.split import Split
from ppar_lightning.data.statistics import class_statistics
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, SHIPPED, ClassList, class_list, inlined

SIZES = {
    **{"cityscapes19": 19, "cityscapes_categories7": 7, "synthia16": 16, "camvid11": 11},
    **{"mapillary65": 65, "voc21": 21, "binary": 2},
}
CATEGORIES = class_list("cityscapes_categories7")
CATEGORY = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6]
"""Train ids of Cityscapes' categories, in the order of its classes."""


def test_the_lists_of_the_package():
    assert {name: len(class_list(name)) for name in SHIPPED} == SIZES
    for name in SHIPPED:
        found = class_list(name)
        assert class_list(found.entries()) == found
        assert len(set(found.colours)) == len(found)
    assert set(CITYSCAPES.groups) == set(CATEGORIES)
    assert set(class_list("mapillary65").groups) - {"animal", "void"} == set(CATEGORIES)
    assert class_list("voc21").colours[15] == (192, 128, 128)
    assert list(class_list("synthia16")) == [name for name in CITYSCAPES if name not in ("terrain", "truck", "train")]


def test_a_list_of_ones_own(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("- floor\n- {name: crate, colour: [1, 2, 3], words: [crate, wooden box], group: goods}\n- café\n")
    found = class_list(str(file))
    assert found == class_list(file) == class_list(inlined(str(file)))
    assert inlined("voc21") == "voc21"
    assert list(found) == ["floor", "crate", "café"]
    assert found.words == (("floor",), ("crate", "wooden box"), ("café",))
    assert found.groups == ("", "goods", "")
    assert found.colours[1] == (1, 2, 3)
    label = np.array([[0, 1], [2, IGNORE]])
    assert found.colourise(label)[0, 1].tolist() == [1, 2, 3]
    assert found.colourise(label)[1, 1].tolist() == [0, 0, 0]


@pytest.mark.remedy("images/classes.py::class_list")
def test_a_list_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(FileNotFoundError, match=r"classes 'nonsuch' not found: name a file, or one of (.*)") as error:
        class_list("nonsuch")
    for name in str(error.value).partition("or one of ")[2].split(", "):
        assert isinstance(class_list(name), ClassList)


@pytest.mark.remedy("images/classes.py::class_list")
@pytest.mark.parametrize("given", [["a"], [], 5, {"a": 1}, [f"c{k}" for k in range(256)], "{[", "a\0b"])
def test_a_list_has_from_2_to_255_classes(tmp_path, given):
    file = tmp_path / "own.yaml"
    file.write_text(given if isinstance(given, str) else yaml.safe_dump(given))
    with pytest.raises(ValueError, match=f"^{file} holds .*: write from 2 to 255 classes, as a list of names"):
        class_list(str(file))
    line = "- {name: crate, colour: [200, 120, 40], words: [crate, wooden box]}\n"  # as the message says
    file.write_text(line + "".join(f"- c{k}\n" for k in range(254)))
    assert len(class_list(str(file))) == 255


@pytest.mark.remedy("images/classes.py::class_list")
@pytest.mark.parametrize("second", ["a", {"name": "b", "colour": [1, 2, 3]}])
def test_two_classes_differ_in_name_and_colour(second):
    first = {"name": "a", "colour": [1, 2, 3]}
    with pytest.raises(ValueError, match=r"two classes have the (name a|colour \(1, 2, 3\)); give each its own"):
        class_list([first, second])
    assert len(class_list([first, {"name": "b", "colour": [3, 2, 1]}])) == 2


@pytest.mark.remedy("images/classes.py::_row")
@pytest.mark.parametrize(
    "entry",
    [
        *(1, True, None, "", "ignore", {"colour": [1, 2, 3]}, {"name": "a", "color": [1, 2, 3]}),
        *({"name": "a", "colour": c} for c in ([1, 2], [1, 2, 256], [0.5, 1, 2], "red", [[1], 2, 3], {1: 2})),
        *({"name": "a", "words": w} for w in ([], [1], {"x": 1}, [""])),
        {"name": "a", "group": 3},
    ],
)
def test_an_entry_that_is_no_class_is_named(entry):
    with pytest.raises(ValueError, match="is no class; write a list of names, or of lines such as {name: crate"):
        class_list([entry, "other"])
    assert class_list([{"name": "crate", "colour": [200, 120, 40], "words": ["crate", "wooden box"]}, "other"])


def test_labels_reach_another_list_by_name_or_else_by_group(tmp_path):
    domain = Domain(dataset="cityscapes", root=str(trees.cityscapes(tmp_path)))
    label = domain.open("c", "eval")[0]["label"]
    mapped = domain.open("c", "eval", classes=CATEGORIES)
    expected = np.array([*CATEGORY, *[IGNORE] * 237])[label]
    np.testing.assert_array_equal(mapped[0]["label"], expected)
    np.testing.assert_array_equal(mapped.read_label(0), expected)
    assert mapped.scored_classes == tuple(range(7))
    assert mapped.remarks == domain.open("c", "eval").remarks
    assert class_statistics(mapped)[0].tolist() == [int((expected == k).sum()) for k in range(7)]
    sixteen = domain.open("c", "eval", classes=class_list("synthia16"))
    assert sixteen.remarks[-1].startswith("terrain, truck, train: not among data.classes, so their pixels")
    assert sixteen[0]["label"][label == CITYSCAPES.index("bicycle")].tolist() == [15] * int((label == 18).sum())
    assert (sixteen[0]["label"][np.isin(label, [9, 14, 16])] == IGNORE).all()


@pytest.mark.remedy("data/split.py::Split.__post_init__")
@pytest.mark.parametrize("mapping", [{"hat": "road"}, {"road": "hat"}])
def test_a_domain_says_what_its_classes_are_called_in_the_run(mapping):
    own, options = class_list(["floor", "sky", "thing"]), {"length": 1}
    with pytest.raises(ValueError, match=r"no class 'hat'; map road, .*, bicycle to floor, sky, thing, ignore$"):
        Domain(dataset="game", options=options, mapping=mapping).open("g", "eval", classes=own)
    given = {"road": "floor", "sidewalk": "floor", "car": "thing", "sky": "ignore"}
    split = Domain(dataset="game", options=options, mapping=given).open("g", "eval", classes=own)
    label = DATASETS["game"](None, "val", "g", length=1)[0]["label"]
    expected = np.full(256, IGNORE)
    expected[[0, 1, 13]] = (0, 0, 2)
    np.testing.assert_array_equal(split[0]["label"], expected[label])


@pytest.mark.remedy("data/split.py::Split.__post_init__")
def test_labels_that_have_no_class_in_common_are_refused():
    streets = DATASETS["game"](None, "val", "g", length=1)
    with pytest.raises(
        ValueError, match="know road, sidewalk, building ..., but no class of hat, dog ...; give --data"
    ):
        Split(streets, range(1), classes=class_list(["hat", "dog"]))
    for good in (["hat", "road"], ["hat", "flat"]):
        assert Split(streets, range(1), classes=class_list(good)).scored_classes == (1,)
    assert Split(streets, range(1), classes=class_list(["hat", "dog"]), mapping={"car": "dog"}).scored_classes == (1,)


@pytest.mark.parametrize(("key", "split", "own"), [("mapillary", "validation", 65), ("camvid", "test", 11)])
def test_a_data_set_is_read_in_its_own_classes_or_in_cityscapes(tmp_path, key, split, own):
    root = str(trees.TREES[key](tmp_path))
    domain = Domain(dataset=key, root=root, eval_split=split)
    plain = domain.open("d", "eval", "rein")
    assert plain.whole.labelled_in == CITYSCAPES
    read = domain.open("d", "eval", "rein", classes=class_list(f"{key}{own}"))
    stored = read.whole.decode_label(read.whole.pairs[0][1])
    np.testing.assert_array_equal(read.read_label(0), np.where(stored == own, IGNORE, stored))
    assert read.scored_classes == tuple(range(own))
    assert not any("not among" in remark for remark in read.remarks)


def test_predictions_are_scored_in_other_classes_by_name_or_else_by_group():
    assert scored_as(CITYSCAPES, CITYSCAPES, "test") is None
    with pytest.warns(UserWarning, match="scored on 7 of 7 classes, which the segmenter knows: flat, construction"):
        assert scored_as(CITYSCAPES, CATEGORIES, "test").tolist() == CATEGORY
    own = class_list(["sky", "hat", "road"])
    with pytest.warns(UserWarning, match="scored on 2 of 19 classes, which the segmenter knows: road, sky"):
        assert scored_as(own, CITYSCAPES, "test").tolist() == [10, 19, 0]


def test_the_data_module_reads_in_its_classes(tmp_path):
    file = Path(tmp_path) / "own.yaml"
    file.write_text("[road, sky, vehicle]")
    game = Domain(options={"size": [32, 64], "length": 2})
    data = DomainDataModule({"game": game}, classes=str(file), crop=(16, 16), batch_size=1, workers=0)
    data.setup("validate")
    assert data.means == {"miou": (0, 1, 2)}
    assert set(np.unique(data.eval_splits["game"][0]["label"])) <= {0, 1, 2, IGNORE}


def test_the_mapping_of_the_guide():
    guide = (Path(__file__).parents[1] / "docs/howto/own_classes.md").read_text()
    lists, mapped = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL))
    assert [*class_list(lists)] == ["floor", "crate", "pallet"]
    own = class_list(mapped["data"]["classes"])
    streets = DATASETS["game"](None, "val", "g", length=1)
    split = Split(streets, range(1), classes=own, mapping=mapped["data"]["sources"]["game"]["mapping"])
    assert split.scored_classes == (0, 1)
