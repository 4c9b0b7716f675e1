"""Evaluation on several ranks gives the very confusion matrices of one rank."""

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule, Trainer
from ranks import run_ranks

from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.metrics import UNSEEN


class ByColour(LightningModule):
    """Predicts each pixel by its own colour; the batch norm gives DDP a buffer to keep alike on all ranks."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.segmenter = SimpleNamespace(num_classes=19)

    def training_step(self, batch):
        return self.norm(batch["image"].float()).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return batch["image"].sum(dim=1) % 19

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def evaluate(command: str, path: str, ranks: int) -> None:
    """Score domains of 5 and 1 images in batches of 2, and save what rank 0 counted."""
    game, fog = (Domain(options={"size": [32, 64], "length": images}) for images in (5, 1))
    small = {"crop": (16, 16), "batch_size": 1, "eval_batch_size": 2, "workers": 0}
    data = DomainDataModule({"game": game}, {"fog": fog}, watch_unseen=True, **small)
    scores = DomainScores(resamples=20)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if ranks > 1 else "auto",
        devices=ranks,
        max_epochs=2,
        callbacks=[scores],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    getattr(trainer, command)(ByColour(), datamodule=data)
    counted = scores.matrices
    images = {name: score.images for name, score in scores.scores.items()}
    if trainer.is_global_zero:
        torch.save((counted, images, scores.intervals), path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", ["fit", "test"])
def test_every_image_is_counted_once(command, tmp_path):
    records = []
    for ranks in (1, 2, 4):
        path = str(tmp_path / f"{ranks}.pt")
        run_ranks(ranks, evaluate, command, path, ranks)
        records.append(torch.load(path, weights_only=True))
    (one, images, intervals), *others = records
    assert [*intervals] == (["game", "fog", UNSEEN] if command == "test" else [])
    assert images == {"game": 5, "fog": 1}
    assert one["fog"].sum() == 32 * 64
    for counted, seen, ends in others:
        assert (seen, ends) == (images, intervals)
        assert all(torch.equal(counted[name], one[name]) for name in one)


def test_no_image_is_sorted_to_check_its_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "unique", None)  # which torchmetrics would call on each label and prediction
    evaluate("validate", str(tmp_path / "counts.pt"), 1)
    assert torch.load(tmp_path / "counts.pt", weights_only=True)[1] == {"game": 5, "fog": 1}
