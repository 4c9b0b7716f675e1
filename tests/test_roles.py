"""Source or unseen: names, images and weights that would make a score mean something else."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import trees
from lightning import Trainer

from ppar_lightning.callbacks.results import print_tables, write_figures
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.runs.tested_run import Score, read_confusion


@pytest.mark.remedy("data/roles.py::check_roles")
def test_the_images_of_a_source_are_not_unseen_under_another_name(tmp_path):
    root = trees.kitti(tmp_path / "kitti")
    (tmp_path / "link").symlink_to(root)
    sources = {"kitti_train": Domain(dataset="kitti", root=str(root))}
    fault = "unseen 'kitti' is scored on the images that source 'kitti_train' trains on; remove one"
    with pytest.raises(ValueError, match=fault):
        DomainDataModule(sources, {"kitti": Domain(root=str(tmp_path / "link"))})
    DomainDataModule(sources)
    DomainDataModule(sources, {"kitti": Domain(root=str(tmp_path / "another"))})


def test_the_other_split_of_a_source_may_be_scored():
    DomainDataModule({"game": Domain()}, {"held_out": Domain(dataset="game")}).setup("test")
    with pytest.raises(ValueError, match="'held_out' is scored on the images that source 'game' trains on"):
        DomainDataModule({"game": Domain()}, {"held_out": Domain(dataset="game", eval_split="train")})


@pytest.mark.remedy("data/roles.py::check_roles")
@pytest.mark.parametrize("unseen", [{"fog": Domain()}, None])
def test_a_domain_is_listed_once(unseen):
    fault = "fog is a source and unseen" if unseen else "there is no source"
    with pytest.raises(ValueError, match=rf"{fault}; list each domain once, under data.sources or data.unseen"):
        DomainDataModule({"fog": Domain()} if unseen else {}, unseen)
    DomainDataModule({"fog": Domain()})


def test_a_source_without_a_validation_split_of_its_own_is_said(tmp_path):
    data = DomainDataModule({"kitti": Domain(root=str(trees.kitti(tmp_path)))}, workers=0)
    said = "domain 'kitti': source 'kitti' trains on 3 of the 3 images that it is scored on, such as 000000; choose"
    for stage in ("fit", "validate"):
        with pytest.warns(UserWarning, match=said):
            data.setup(stage)


def own(root: Path, pattern: str, **options: Any) -> Domain:
    patterns = {"images": f"{pattern}.png", "labels": f"{pattern}_ids.png", "ids": {7: "road"}}
    return Domain("folder", str(root), options=patterns, **options)


def write_pairs(folder: Path, *names: str) -> Path:
    for name in names:
        trees.write_image(folder / f"{name}.png")
        trees.write_label(folder / f"{name}_ids.png", trees.stripes([7]))
    return folder


def test_a_pattern_without_split_is_said_and_its_remedies_work(tmp_path, recwarn):
    for split in ("train", "val"):
        write_pairs(tmp_path / split, f"a_{split}", f"b_{split}")
    DomainDataModule({"own": own(tmp_path, "*/*")}, workers=0).setup("fit")
    (said,) = (str(each.message) for each in recwarn if "trains on" in str(each.message))
    assert said.startswith(
        "domain 'own': source 'own' trains on 4 of the 4 images that it is scored on, such as train/a_"
    )
    assert "(patterns of a folder need {split}), or validate nothing with --trainer.limit_val_batches 0" in said
    recwarn.clear()
    DomainDataModule({"own": own(tmp_path, "*/*")}, workers=0).setup("test")
    (said,) = (str(each.message) for each in recwarn if "trains on" in str(each.message))
    assert said.endswith("(patterns of a folder need {split})")  # what a training need not score is no matter here
    recwarn.clear()
    DomainDataModule({"own": own(tmp_path, "{split}/*")}, workers=0).setup("fit")
    data = DomainDataModule({"own": own(tmp_path, "*/*")}, workers=0)
    data.trainer = Trainer(accelerator="cpu", limit_val_batches=0, logger=False, enable_checkpointing=False)
    data.setup("fit")
    assert data.eval_splits == {}
    assert not [each for each in recwarn if "trains on" in str(each.message)]


def test_a_source_may_train_on_what_another_validates(tmp_path):
    for split in ("train", "val"):
        write_pairs(tmp_path / split, f"a_{split}", f"b_{split}")
    sources = {"one": own(tmp_path, "{split}/*"), "two": own(tmp_path, "{split}/*", train_split="val")}
    with pytest.warns(UserWarning, match="domain 'one': source 'two' trains on 2 of the 2 images that it is scored on"):
        DomainDataModule(sources, workers=0).setup("fit")


@pytest.mark.remedy("data/datamodule.py::DomainDataModule.setup")
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_one_image_in_a_source_and_an_unseen_domain_is_refused(tmp_path, stage):
    mine, theirs = write_pairs(tmp_path / "mine/train", "a", "b"), write_pairs(tmp_path / "theirs/val", "c")
    write_pairs(tmp_path / "mine/val", "d")
    (theirs / "b.png").symlink_to(mine / "b.png")
    (theirs / "b_ids.png").symlink_to(mine / "b_ids.png")
    sources = {"mine": own(tmp_path / "mine", "{split}/*")}
    unseen = {"theirs": own(tmp_path / "theirs", "{split}/*")}
    data = DomainDataModule(sources, unseen, workers=0, watch_unseen=stage == "fit")
    fault = "unseen domain 'theirs': source 'mine' trains on 1 of the 2 images that it is scored on, such as b; choose"
    with pytest.raises(ValueError, match=rf"{fault} .* or take the domain out"):
        data.setup(stage)
    DomainDataModule(sources, workers=0, watch_unseen=stage == "fit").setup(stage)
    write_pairs(theirs.parent / "others", "e")
    unseen = {"theirs": own(tmp_path / "theirs", "{split}/*", eval_split="others")}
    DomainDataModule(sources, unseen, workers=0, watch_unseen=stage == "fit").setup(stage)


def test_a_test_needs_no_training_images(tmp_path):
    write_pairs(tmp_path / "val", "a")
    data = DomainDataModule({"own": own(tmp_path, "{split}/*")}, workers=0)
    data.setup("test")
    assert [*data.eval_splits] == ["own"]


@pytest.mark.remedy("data/roles.py::check_roles")
@pytest.mark.parametrize("name", ["a/b", "a\\b", "unseen", "", "a\nb"])
def test_a_name_that_metrics_cannot_carry(name):
    with pytest.raises(
        ValueError, match=r"cannot be called '.*'.*; rename it and give its data set with option dataset"
    ):
        DomainDataModule({"game": Domain()}, {name: Domain(dataset="fog")})
    DomainDataModule({"game": Domain()}, {"another": Domain(dataset="fog")})


@pytest.mark.parametrize("name", ["file", "allow_pickle", "index", "v1.2", "..", "a b", "a,b"])
def test_figures_of_a_domain_of_any_name_are_kept(tmp_path, name):
    score = Score(True, "full", 1, 1, {"miou": 0.5}, dict.fromkeys(CITYSCAPES, 0.5))
    matrix = torch.arange(361).view(19, 19)
    write_figures(tmp_path, {name: score}, {name: matrix}, {})
    print_tables({name: score})
    np.testing.assert_array_equal(read_confusion(tmp_path)[name], matrix)
    assert pd.read_csv(tmp_path / "test.csv")["domain"].tolist() == [name]
    assert json.loads((tmp_path / "test.json").read_text())["domains"][name]["miou"] == 0.5


def test_a_test_of_other_scores_keeps_the_earlier_one(tmp_path):
    read = lambda name: json.loads((tmp_path / name).read_text())["domains"]["fog"]["protocol"]  # noqa: E731
    matrix = torch.arange(361).view(19, 19)

    def test_by(protocol, pixels):
        score = Score(True, protocol, 1, 1, {"miou": 0.5}, dict.fromkeys(CITYSCAPES, math.nan))
        return write_figures(tmp_path, {"fog": score}, {"fog": pixels}, {})

    assert test_by("full", matrix) is None
    assert test_by("full", matrix) is None  # the same scores again
    assert test_by("rein", matrix + 1) == tmp_path / "test.1.json"
    assert (read("test.1.json"), read("test.json")) == ("full", "rein")
    assert pd.read_csv(tmp_path / "test.1.csv")["protocol"].tolist() == ["full"]
    with np.load(tmp_path / "confusion.1.npz") as former:
        np.testing.assert_array_equal(former["fog"], matrix)
    np.testing.assert_array_equal(read_confusion(tmp_path)["fog"], matrix + 1)
    (tmp_path / "test.json").write_text("damaged")
    assert test_by("full", matrix) == tmp_path / "test.2.json"
    assert (tmp_path / "test.2.json").read_text() == "damaged"


def test_figures_without_a_value_are_null_and_empty(tmp_path):
    nothing = Score(True, "full", 0, 0, {"miou": math.nan}, dict.fromkeys(CITYSCAPES, math.nan))
    write_figures(tmp_path, {"fog": nothing}, {}, {})
    text = (tmp_path / "test.json").read_text()
    assert "NaN" not in text
    assert '"unseen_miou": null' in text
    assert (tmp_path / "test.csv").read_text().splitlines()[1] == "fog,unseen,full,0,0," + "," * 19
