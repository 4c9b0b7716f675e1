"""What a run shows while it runs: lines in a log, a bar on a terminal, and no warnings about nothing."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelSummary, RichProgressBar, TQDMProgressBar
from ranks import run_ranks
from test_cli import CONFIG, SMALL

from ppar_lightning.callbacks import diagnostics, progress_lines
from ppar_lightning.callbacks.diagnostics import TrainingDiagnostics
from ppar_lightning.callbacks.noise import quieten, says_something
from ppar_lightning.callbacks.progress_lines import ParameterCounts, ProgressLines, TerminalBar, display
from ppar_lightning.cli import main


class Trainer(SimpleNamespace):
    """A trainer of 100 steps, each of which lasts 4 s; it has losses to read on logging steps alone."""

    log_every_n_steps = 5
    global_step = current_epoch = 0
    estimated_stepping_batches = 100
    is_global_zero = True

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        assert self.global_step % self.log_every_n_steps == 0
        values = {"train/loss/ce": torch.tensor(1.5), "train/images_per_second": torch.tensor(1.5)}
        return {"train/loss": torch.tensor(2.0, device="meta"), **values}

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        assert self.global_step % self.log_every_n_steps == 0
        return {"loss": 2.0}


def test_lines_are_30_seconds_apart_and_read_losses_on_logging_steps_alone(monkeypatch, capsys):
    clock = SimpleNamespace(time=0.0)
    for module in (progress_lines, diagnostics):
        monkeypatch.setattr(module, "now", lambda: clock.time)
    speed, trainer, logged = TrainingDiagnostics(), Trainer(), {}
    module = SimpleNamespace(log=lambda name, value: logged.setdefault(name, []).append(float(value)), objective=None)
    module.log_dict = lambda _: None
    lines = ProgressLines()
    for callback in (speed, lines):
        callback.setup(trainer, module, "fit")
        callback.on_train_start(trainer, module)
    for step in range(1, 26):
        speed.on_train_batch_start(trainer, module, {"image": torch.zeros(6, 3, 1, 1)}, step)
        clock.time += 4.0
        for callback in (speed, lines):
            callback.on_before_optimizer_step(trainer, module, SimpleNamespace(param_groups=[]))
        trainer.global_step = step
        lines.on_train_batch_end(trainer, module)
        if step == 12:  # of 100 s, which are no training time
            speed.on_validation_start(trainer, module)
            clock.time += 100.0
            speed.on_validation_end(trainer, module)
    assert logged == {"train/images_per_second": [1.5] * 5}
    said = capsys.readouterr().out.splitlines()
    assert [line.split("/")[0] for line in said] == ["step 5", "step 15", "step 25"]
    assert said[0] == "step 5/100, epoch 0, loss 2.000 (ce 1.500), 1.5 images/s, 0:06:20 left"
    assert said[2].endswith("1.5 images/s, 0:10:00 left")  # 75 steps of 200 s / 25


def test_only_the_first_rank_prints(capsys):
    trainer = Trainer(is_global_zero=False, log_every_n_steps=1)
    lines = ProgressLines()
    lines.setup(trainer, None, "fit")
    lines.on_train_start(trainer, None)
    lines.on_before_optimizer_step(trainer)
    trainer.global_step = 1
    lines.on_train_batch_end(trainer)
    assert capsys.readouterr().out == ""


def options(**given) -> Namespace:
    unset = {"callbacks": None, "enable_progress_bar": None, "enable_model_summary": None}
    return Namespace(**(unset | given))


def test_a_terminal_gets_a_bar_and_everything_else_lines_unless_the_user_says_otherwise(monkeypatch):
    def shown(**given) -> list[type]:
        return [type(callback) for callback in display(options(**given))]

    assert shown() == [ProgressLines, ParameterCounts]
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True, write=sys.stdout.write, flush=lambda: None))
    assert shown(enable_progress_bar=True) == [TerminalBar, ParameterCounts]
    assert shown(enable_progress_bar=False, enable_model_summary=False) == []
    assert shown(callbacks=TQDMProgressBar()) == [ParameterCounts]
    assert shown(callbacks=[ModelSummary(), RichProgressBar()]) == []


def test_the_bar_names_no_epoch_or_version_that_is_none():
    version = SimpleNamespace(version=0)
    trainer = SimpleNamespace(max_epochs=-1, loggers=[version], progress_bar_metrics={"loss": 2.0})
    bar = TerminalBar()
    bar.setup(SimpleNamespace(is_global_zero=True, **vars(trainer)), None, "fit")
    assert bar.get_metrics(trainer, None) == {"loss": 2.0}
    assert bar._get_train_description(3).rstrip() == "Epoch 3"
    bar.trainer.max_epochs = 5
    assert bar._get_train_description(3).rstrip() == "Epoch 3/4"


def heard(words: list[str]) -> None:
    """Run a command, and print what it warns of as it is printed outside of the tests."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_, **__: print(
            f"{category.__name__}: {message}", file=sys.stderr
        )
        main(words)


OURS = ("domain ", "Loaded model weights from the checkpoint at ")
"""Beginnings of the lines on stderr: limits of a domain that the command names, and the checkpoint that is scored."""


def test_two_ranks_warn_of_nothing(tmp_path, capfd):
    words = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    words += [*SMALL[4:], "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]
    run_ranks(2, heard, ["fit", "--config", CONFIG, *words, "--trainer.limit_val_batches", "1"])
    out, err = capfd.readouterr()
    assert [line for line in err.splitlines() if not line.startswith(OURS)] == []
    assert out.count("step 1/1, epoch 0") == 1  # the first rank alone
    assert out.count("step 1, validation: mIoU (%) game ") == 1


@pytest.mark.slow
def test_the_commands_warn_of_nothing(tmp_path):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    whole = ["--config", CONFIG, *SMALL[4:], "--data.workers", "4", "--trainer.default_root_dir", str(folder)]
    for words in (
        ["doctor", *whole, "--output", str(tmp_path / "doctor")],
        ["fit", *whole],
        ["test", "--config", str(folder / "config.yaml")],
        ["validate", "--config", str(folder / "config.yaml")],
        ["test", "--config", str(folder / "config.yaml"), "--trainer.devices", "2", "--trainer.strategy", "ddp"],
        ["predict", str(folder / "pictures"), "--run", str(folder), "--predictions.folder", str(tmp_path / "maps")],
    ):
        command = [sys.executable, "-m", "ppar_lightning", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert [line for line in done.stderr.splitlines() if not line.startswith(OURS)] == [], words[0]
        assert "\r" not in done.stdout


def test_a_moved_run_and_a_count_of_steps_are_no_news(recwarn):
    quieten()
    warnings.warn("The dirpath has changed from '/a' to '/b', therefore `best_model_score` won't be reloaded.")  # noqa: B028
    warnings.warn("Truncated File Read")  # noqa: B028
    warnings.warn("another")  # noqa: B028
    assert [str(each.message) for each in recwarn] == ["another"]
    messages = "Loading `train_dataloader` to estimate number of stepping batches.", "Loading weights"
    records = [logging.makeLogRecord({"msg": message}) for message in messages]
    assert [says_something(record) for record in records] == [False, True]
