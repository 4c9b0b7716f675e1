"""Source or unseen: names, images and weights that would make a score mean something else."""

import math

import pytest
import trees

from ppar_lightning.callbacks.results import write_figures
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.runs.tested_run import Score


def test_the_images_of_a_source_are_not_unseen_under_another_name(tmp_path):
    root = trees.kitti(tmp_path / "kitti")
    (tmp_path / "link").symlink_to(root)
    sources = {"kitti_train": Domain(dataset="kitti", root=str(root))}
    with pytest.raises(
        ValueError, match="unseen domain 'kitti' is scored on the images that source 'kitti_train' trains on"
    ):
        DomainDataModule(sources, {"kitti": Domain(root=str(tmp_path / "link"))})
    DomainDataModule(sources, {"kitti": Domain(root=str(tmp_path / "another"))})


def test_the_other_split_of_a_source_may_be_scored():
    DomainDataModule({"game": Domain()}, {"held_out": Domain(dataset="game")})
    with pytest.raises(ValueError, match="'held_out' is scored on the images that source 'game' trains on"):
        DomainDataModule({"game": Domain()}, {"held_out": Domain(dataset="game", eval_split="train")})


def test_a_source_without_a_validation_split_of_its_own_is_said(tmp_path):
    data = DomainDataModule({"kitti": Domain(root=str(trees.kitti(tmp_path)))}, workers=0)
    with pytest.warns(UserWarning, match="domain 'kitti': its validation scores the images it is trained on"):
        data.setup("fit")


@pytest.mark.parametrize("name", ["a/b", "unseen"])
def test_a_name_that_metrics_cannot_carry(name):
    with pytest.raises(ValueError, match=f"cannot be called '{name}'.*rename it"):
        DomainDataModule({"game": Domain()}, {name: Domain(dataset="fog")})


def test_figures_without_a_value_are_null_and_empty(tmp_path):
    nothing = Score(True, "full", 0, {"miou": math.nan}, dict.fromkeys(CLASSES, math.nan))
    write_figures(tmp_path, {"fog": nothing}, {}, {})
    text = (tmp_path / "test.json").read_text()
    assert "NaN" not in text
    assert '"unseen_miou": null' in text
    assert (tmp_path / "test.csv").read_text().splitlines()[1] == "fog,unseen,full,0," + "," * 19
