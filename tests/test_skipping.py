"""Samples that cannot be read: an error by default and in evaluation, or replaced in training and listed."""

import csv
import math
import os
from types import SimpleNamespace

import pytest
import torch
import trees
from lightning import LightningModule, Trainer
from test_datamodule import equal

from ppar_lightning.callbacks.prediction_grid import PredictionGrid
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.skipped import SkippedSamples, append
from ppar_lightning.data import statistics
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.dataset import Skipped
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.epoch_order import Sampling
from ppar_lightning.images.classes import IGNORE


def cut(path, share=0.5):
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.fixture
def data(tmp_path):
    """A data module of PNG and JPEG, with a damaged image of each in training."""
    city, bdd = trees.cityscapes(tmp_path / "c"), trees.bdd100k(tmp_path / "b")
    cut(city / "leftImg8bit/train/aachen/aachen_000003_000019_leftImg8bit.png")
    cut(bdd / "images/10k/train/00000001-train.jpg")

    def make(**settings):
        sources = {"cityscapes": Domain(root=str(city)), "bdd100k": Domain(root=str(bdd))}
        options = {"crop": (16, 24), "batch_size": 4, "workers": 0, "on_bad_sample": "skip"} | settings
        return DomainDataModule(sources, **options)

    return make


def training(datamodule, epoch=0):
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_the_error_names_the_file_and_the_remedy_by_default(tmp_path):
    root = trees.camvid(tmp_path)
    cut(root / "train/0001TP_000001.png")
    with pytest.raises(
        ValueError, match="0001TP_000001.png: no image that can be decoded.*; restore it from where it came from"
    ):
        training(DomainDataModule({"camvid": Domain(root=str(root))}, crop=(16, 16), batch_size=3, workers=0))


def test_training_replaces_what_it_cannot_read(data):
    batches = training(data())
    assert [len(batch["name"]) for batch in batches] == [4, 4, 4]
    assert all((batch["label"] != IGNORE).any(dim=(1, 2)).all() for batch in batches)
    errors = {error.domain: error for batch in batches for error in batch["error"]}
    assert errors["cityscapes"].name == "aachen/aachen_000003_000019"
    assert "aachen_000003_000019_leftImg8bit.png: no image that can be decoded" in errors["cityscapes"].message
    assert errors["bdd100k"].name == "00000001-train"
    domains = [name for batch in batches for name in batch["domain"]]
    assert sorted(domains) == ["bdd100k"] * 6 + ["cityscapes"] * 6  # by one of the same source
    assert equal(batches, training(data(workers=2)))
    names = [sorted(name for batch in training(data(), epoch) for name in batch["name"]) for epoch in range(4)]
    assert len(set(map(tuple, names))) > 1  # not always by the same one


@pytest.mark.remedy("data/sampling.py::AugmentedDataset._read")
def test_a_source_of_damaged_files_ends_the_run(tmp_path):
    for path in trees.bdd100k(tmp_path).glob("images/10k/train/*.jpg"):
        cut(path)
    datamodule = DomainDataModule(
        {"bdd100k": Domain(root=str(tmp_path))}, workers=0, batch_size=2, on_bad_sample="skip"
    )
    with pytest.raises(ValueError, match="11 images in a row cannot be read; the last: .*restore it"):
        training(datamodule)
    trees.bdd100k(tmp_path)
    assert not any(batch["error"] for batch in training(datamodule))


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_a_damaged_file_ends_an_evaluation_in_one_line(tmp_path, policy):
    root = trees.bdd100k(tmp_path)
    cut(root / "labels/sem_seg/masks/val/00000001-val.png")
    datamodule = DomainDataModule({"bdd100k": Domain(root=str(root))}, workers=0, on_bad_sample=policy)
    datamodule.setup("test")
    with pytest.raises(
        ValueError, match="00000001-val.png: no label that can be decoded.*; restore it from where .*"
    ) as caught:
        list(datamodule.test_dataloader()[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_file_without_a_counterpart_ends_an_evaluation_in_one_line(tmp_path, policy, stage):
    root = trees.bdd100k(tmp_path)
    (root / "labels/sem_seg/masks/val/00000001-val.png").unlink()
    datamodule = DomainDataModule({"bdd100k": Domain(root=str(root))}, workers=0, on_bad_sample=policy)
    with pytest.raises(FileNotFoundError, match="00000001-val.jpg has no label .*extract the missing ones") as caught:
        datamodule.setup(stage)
    assert "\n" not in str(caught.value)


def test_training_may_lack_files_of_a_folder_that_it_shares_with_its_evaluation_split(tmp_path):
    root = trees.gta5(tmp_path)
    (root / "labels/00003.png").unlink()  # of the first five, which split.mat lists for training
    datamodule = DomainDataModule({"gta": Domain(root=str(root))}, workers=0, on_bad_sample="skip")
    with pytest.warns(UserWarning, match="00003.png has no label"):
        datamodule.setup("fit")
    assert (len(datamodule.train_splits["gta"]), len(datamodule.eval_splits["gta"])) == (4, 4)
    assert [line.message.rpartition("/")[2] for line in datamodule.skipped()] == ["00003.png has no label"]


class AllRoad(LightningModule):
    """Predicts road everywhere."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.segmenter = SimpleNamespace(num_classes=19)

    def training_step(self, batch):
        assert batch["label"].dtype == torch.int64
        assert batch["image"].is_contiguous()
        return self.weight**2

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return torch.zeros_like(batch["label"])

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def run(folder, datamodule, *commands):
    scores = DomainScores()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    for command in commands:
        callbacks = [scores, PredictionGrid(width=32), SkippedSamples()]
        trainer = Trainer(
            default_root_dir=folder, max_epochs=2, callbacks=callbacks, enable_checkpointing=False, **quiet
        )
        getattr(trainer, command)(AllRoad(), datamodule=datamodule)
    return scores.scores


def listed(folder):
    with (folder / "skipped.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore")
def test_skipped_samples_are_listed_once(data, tmp_path, capsys):
    folder = tmp_path / "run"
    (tmp_path / "c/gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    (tmp_path / "b/labels/sem_seg/masks/train/00000005-train.png").unlink()
    scores = run(folder, data(), "fit", "test", "test")
    rows = listed(folder)
    damaged = {"aachen/aachen_000003_000019", "00000001-train"}
    assert {row["name"] for row in rows if "restore it from where it came from" in row["message"]} == damaged
    lonely = [(row["stage"], row["domain"]) for row in rows if row["message"].endswith("has no label")]
    assert lonely == [("train", "cityscapes"), ("train", "bdd100k")]
    assert len(rows) == 4
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("4 samples were left out in train, listed in") == 1
    for name in ("cityscapes", "bdd100k"):
        assert scores[name].images == 3
        assert scores[name].iou["road"] == pytest.approx(
            scores[name].means["miou"] * sum(not math.isnan(v) for v in scores[name].iou.values())
        )
    assert scores["bdd100k"].iou["road"] == pytest.approx(4 / 76)  # of the remaining: 4 of 80 columns, 4 are ignored


@pytest.mark.filterwarnings("ignore")
def test_nothing_skipped_is_said_by_an_empty_list(tmp_path, capsys):
    root = trees.camvid(tmp_path / "data")
    make = lambda policy: DomainDataModule(  # noqa: E731
        {"camvid": Domain(root=str(root))}, crop=(16, 16), batch_size=2, workers=0, on_bad_sample=policy
    )
    run(tmp_path / "skip", make("skip"), "fit")
    run(tmp_path / "raise", make("raise"), "fit")
    assert listed(tmp_path / "skip") == []
    assert not (tmp_path / "raise" / "skipped.csv").exists()
    assert "left out" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_a_list_tells_of_the_latest_training(tmp_path, capsys):
    root = trees.camvid(tmp_path / "data")
    label = root / "trainannot/0001TP_000000.png"
    whole = label.read_bytes()
    make = lambda: DomainDataModule(  # noqa: E731
        {"camvid": Domain(root=str(root))}, crop=(16, 16), batch_size=2, workers=0, on_bad_sample="skip"
    )
    label.unlink()
    run(tmp_path / "run", make(), "fit")
    assert [row["stage"] for row in listed(tmp_path / "run")] == ["train"]
    assert "1 sample was left out in train, listed in" in " ".join(capsys.readouterr().out.split())
    label.write_bytes(whole)
    run(tmp_path / "run", make(), "fit")
    assert "left out" not in capsys.readouterr().out
    assert listed(tmp_path / "run") == []


@pytest.mark.filterwarnings("ignore")
def test_what_never_comes_to_be_drawn_is_listed_too(data, tmp_path):
    (tmp_path / "c/gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    (tmp_path / "b/images/10k/train/00000005-train.jpg").unlink()
    label = next((tmp_path / "b").glob("labels/sem_seg/masks/train/00000002-train.png"))
    cut(label)
    datamodule = data(sampling=Sampling("rare_class", min_pixels=20))
    run(tmp_path / "run", datamodule, "fit")
    rows = listed(tmp_path / "run")
    lonely = {(row["domain"], row["message"].rpartition("/")[2]) for row in rows if "has no" in row["message"]}
    assert lonely == {
        ("cityscapes", "aachen_000001_000019_leftImg8bit.png has no label"),
        ("bdd100k", "00000005-train.png has no image"),
    }
    assert [row["stage"] for row in rows if row["name"] == "00000002-train"] == ["train"]
    with pytest.raises(FileNotFoundError, match="_leftImg8bit.png has no label"):
        data(on_bad_sample="raise").setup("fit")


def test_a_label_that_cannot_be_counted_is_an_error_by_default(tmp_path):
    root = trees.bdd100k(tmp_path)
    cut(root / "labels/sem_seg/masks/train/00000002-train.png")
    rule = Sampling("rare_class", min_pixels=20)
    with pytest.raises(ValueError, match="00000002-train.png: no label that can be decoded"):
        DomainDataModule({"bdd100k": Domain(root=str(root))}, workers=0, sampling=rule).setup("fit")


@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.filterwarnings("ignore")
def test_what_the_statistics_leave_out_is_never_silent(tmp_path, monkeypatch, policy):
    root, count = trees.camvid(tmp_path / "data"), statistics.count_label
    unreadable = lambda whole, index: [-1] * 19 if index == 2 else count(whole, index)  # noqa: E731
    monkeypatch.setattr(statistics, "count_label", unreadable)  # and readable again right after
    datamodule = DomainDataModule(
        {"camvid": Domain(root=str(root))}, workers=0, sampling=Sampling("class_uniform"), on_bad_sample=policy
    )
    datamodule.setup("fit")
    assert [skipped.name for skipped in datamodule.skipped()] == ["0001TP_000002"]


@pytest.mark.filterwarnings("ignore")
def test_a_name_that_is_no_utf8_is_listed_by_its_code(tmp_path):
    root = trees.camvid(tmp_path / "data")
    for folder in ("train", "trainannot", "test", "testannot"):
        path = root / folder / "0001TP_000001.png"
        path.rename(path.with_name(os.fsdecode(b"a\xff.png")))
    cut(root / "train" / os.fsdecode(b"a\xff.png"))
    make = lambda: DomainDataModule(  # noqa: E731
        {"camvid": Domain(root=str(root))}, crop=(16, 16), batch_size=2, workers=0, on_bad_sample="skip"
    )
    for _ in range(2):
        run(tmp_path / "run", make(), "fit", "test")
    rows = listed(tmp_path / "run")
    assert [(row["stage"], row["name"]) for row in rows] == [("train", r"a\udcff")]
    assert r"a\udcff.png: no image that can be decoded" in rows[0]["message"]


def test_lines_are_appended_whole_and_once(tmp_path):
    first, second = Skipped("d", 'a,"b"', "one\nline"), Skipped("d", "b", "two")
    append(tmp_path / "run" / "skipped.csv", [first, first])
    append(tmp_path / "run" / "skipped.csv", [second, first])
    assert [tuple(row.values()) for row in listed(tmp_path / "run")] == [
        ("train", "d", 'a,"b"', "one line"),
        ("train", "d", "b", "two"),
    ]
