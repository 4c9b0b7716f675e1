"""Bad input through the real command line: one line that names the thing and the remedy, and a non-zero status."""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from lightning.pytorch.utilities import rank_zero_only
from trees import TREES

from ppar_lightning.cli import main
from ppar_lightning.console import leave
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain

DEMO = str(Path(__file__).parents[1] / "configs" / "demo.yaml")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--data.workers", "0")


ROOT = "--trainer.default_root_dir"


def complaint(capsys, *words: str, config: str = DEMO, command: str = "fit") -> str:
    """Run the command, expect it to fail and to leave its run folder as it was, and return what it says."""
    folder = Path(words[words.index(ROOT) + 1]) if ROOT in words else None
    before = sorted(folder.rglob("*")) if folder else []
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main([command, "--config", config, *words])
    assert leaving.value.code not in (0, None)
    errors = [line for line in capsys.readouterr().err.splitlines() if "ppar: error" in line]
    assert len(errors) == 1
    assert not folder or sorted(folder.rglob("*")) == before
    return errors[0]


@pytest.fixture
def city(tmp_path) -> Path:
    """A small Cityscapes, to be damaged."""
    return TREES["cityscapes"](tmp_path / "cityscapes")


def train_on(city: Path, *words: str) -> tuple[str, ...]:
    sources = f"{{cityscapes: {{root: '{city}'}}}}"
    small = ("--data.crop", "[32, 64]", "--data.batch_size", "2", "--trainer.max_steps", "3")
    return "--data.sources", sources, ROOT, str(city.parent / "run"), *small, *QUIET, *words


def test_an_unknown_key(tmp_path, capsys):
    (tmp_path / "typo.yaml").write_text("model: {ppar: {lamda_align: 1.0}}\n")
    assert "lamda_align" in complaint(capsys, "--config", str(tmp_path / "typo.yaml"))
    assert "--model.ppar.taau" in complaint(capsys, "--model.ppar.taau", "1")


def test_a_missing_folder(tmp_path, capsys):
    message = complaint(capsys, *train_on(tmp_path / "nowhere"))
    assert "domain 'cityscapes'" in message
    assert f"root is {tmp_path / 'nowhere'}, which is no folder" in message
    assert "leftImg8bit" in message
    assert "--data.sources.cityscapes" in message


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_label_value_outside_the_table(city, capsys, workers):
    for path in city.glob("gtFine/train/*/*_labelIds.png"):
        cv2.imwrite(str(path), np.full((48, 80), 77, np.uint8))
    message = complaint(capsys, *train_on(city, "--data.workers", workers))
    assert "77" in message
    assert "_gtFine_labelIds.png" in message


@pytest.mark.remedy("data/statistics.py::refuse_unlabelled")
@pytest.mark.parametrize("remedy", ["correct the table of ids or the label files", "choose another split"])
def test_a_source_whose_labels_are_all_ignored(city, capsys, remedy):
    for path in city.glob("gtFine/train/*/*_labelIds.png"):
        cv2.imwrite(str(path), np.zeros((48, 80), np.uint8))
    message = complaint(capsys, *train_on(city))
    assert "domain 'cityscapes': none of its 6 labels has a pixel of a class, all are ignored" in message
    assert remedy in message
    data = DomainDataModule({"cityscapes": Domain(root=str(city), train_split="val")}, workers=0)
    if remedy.startswith("correct"):
        cv2.imwrite(str(path), np.full((48, 80), 7, np.uint8))
        data = DomainDataModule({"cityscapes": Domain(root=str(city))}, workers=0)
    data.setup("fit")


def test_an_image_and_a_label_of_different_size(city, capsys):
    for path in city.glob("leftImg8bit/train/*/*.png"):
        cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))
    message = complaint(capsys, *train_on(city))
    assert "80x40" in message
    assert "80x48" in message


def test_the_corrected_command_may_use_the_folder(city, capsys):
    labels = list(city.glob("gtFine/val/*/*_labelIds.png"))
    whole = [path.read_bytes() for path in labels]
    for path in labels:
        path.write_bytes(b"damaged")
    assert "_labelIds.png" in complaint(capsys, *train_on(city))
    for path, content in zip(labels, whole, strict=True):
        path.write_bytes(content)
    main(["fit", "--config", DEMO, *train_on(city)])
    assert (city.parent / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_png_that_is_cut_short(city, capsys):
    for path in city.glob("leftImg8bit/train/*/*.png"):
        path.write_bytes(path.read_bytes()[:-40])
    message = complaint(capsys, *train_on(city))
    assert "_leftImg8bit.png: no image that can be decoded (PNG, mode RGB); restore it from where" in message


def test_an_image_without_a_label(city, capsys):
    next(city.glob("gtFine/train/*/*_labelIds.png")).unlink()
    assert "has no label (1 of 11 files have no counterpart)" in complaint(capsys, *train_on(city))


def test_names_for_another_number_of_classes(tmp_path, capsys):
    words = ("--model.ppar.class_names", "[road, sky]", "--trainer.default_root_dir", str(tmp_path))
    message = complaint(capsys, *words, *QUIET)
    assert "['road', 'sky'] is no longer supported: leave the option out; data.classes gives names" in message


def test_text_embeddings_of_the_wrong_shape(tmp_path, capsys):
    np.save(tmp_path / "text.npy", np.zeros((18, 128), np.float32))
    words = ("--model.ppar.text_embeddings", str(tmp_path / "text.npy"), "--trainer.default_root_dir", str(tmp_path))
    message = complaint(capsys, *words, *QUIET)
    assert "(18, 128)" in message
    assert "(19, D)" in message


def test_a_clip_that_cannot_be_fetched(tmp_path, capsys):
    words = ("--model.ppar.clip", "openai/clip-vit-base-patch16", "--trainer.default_root_dir", str(tmp_path))
    message = complaint(capsys, *words, *QUIET)
    assert "'openai/clip-vit-base-patch16' cannot be loaded" in message
    assert "hf download openai/clip-vit-base-patch16" in message


def test_a_backbone_that_cannot_be_fetched(tmp_path, capsys):
    words = ("--model.segmenter.backbone", "microsoft/resnet-50", "--trainer.default_root_dir", str(tmp_path))
    assert "hf download microsoft/resnet-50" in complaint(capsys, *words, *QUIET)


def test_a_test_without_a_checkpoint(tmp_path, capsys):
    message = complaint(capsys, "--trainer.default_root_dir", str(tmp_path), command="test")
    assert f"{tmp_path}/checkpoints/last.ckpt not found: run `ppar fit` first" in message


@pytest.mark.parametrize(("option", "value"), [("batch_size", "0"), ("workers", "-1"), ("augmentation.scale", "[0,0]")])
def test_a_number_outside_its_range(tmp_path, capsys, option, value):
    message = complaint(capsys, "--trainer.default_root_dir", str(tmp_path / "run"), f"--data.{option}", value)
    assert f"{option} is " in message
    assert "; give " in message


def test_a_config_that_is_not_there(capsys):
    assert "none.yaml" in complaint(capsys, config="none.yaml")


@pytest.mark.slow
def test_a_batch_without_a_valid_pixel_trains_on(city):
    for path in sorted(city.glob("gtFine/train/*/*_labelIds.png"))[:-1]:
        cv2.imwrite(str(path), np.zeros((48, 80), np.uint8))
    main(["fit", "--config", DEMO, *train_on(city, "--trainer.detect_anomaly", "true")])
    assert (city.parent / "run" / "checkpoints" / "last.ckpt").is_file()
    shutil.rmtree(city)


def test_gpus_that_are_not_there(capsys, tmp_path):
    gta = str(Path(DEMO).with_name("gta.yaml"))
    models = ("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false")
    words = (*models, "--trainer.default_root_dir", str(tmp_path), "--model.ppar.enabled", "false")
    assert "gpu" in complaint(capsys, *words, config=gta).lower()


def test_an_error_of_another_rank_says_which(monkeypatch, capsys):
    for rank, line in ((0, "ppar: error: sunk\n"), (1, "ppar: error: rank 1: sunk\n")):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        with pytest.raises(SystemExit):
            leave(ValueError("sunk"))
        assert capsys.readouterr().err == line


def test_the_clip_of_rendered_streets_on_photographs_is_a_warning(city, capsys):
    said = "tinyclip has learnt only from .* rendered streets, and cityscapes shows others: set --model.ppar.clip"
    with pytest.warns(UserWarning, match=said) as warned:
        complaint(capsys, *train_on(city, "--data.batch_size", "99"))
    assert len([each for each in warned if "tinyclip" in str(each.message)]) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written(tmp_path, capsys, number):
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    with pytest.raises(SystemExit):
        leave(OSError(number, os.strerror(number), str(run / "manifest.json")))
    said = "allow it with `chmod -R u+rwX`, or copy that folder to where you may write, and give the copy"
    assert (
        capsys.readouterr().err
        == f"ppar: error: [Errno {number}] {os.strerror(number)}: '{run}/manifest.json': {said}\n"
    )
    shutil.copytree(run, copy)
    (copy / "manifest.json").touch()
    run.chmod(0)
    subprocess.run(["chmod", "-R", re.search("chmod -R (.*?)`", said)[1], str(run)], check=True)
    (run / "manifest.json").touch()
