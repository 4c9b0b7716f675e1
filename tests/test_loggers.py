"""Curves survive whatever happens while they are written, and every logger of a run is told the same."""

import csv
import os
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import wandb
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_cli import CONFIG, SMALL, evaluate
from test_disk import small_files

from ppar_lightning.callbacks import loggers
from ppar_lightning.callbacks.loggers import CurvesLogger, run_loggers
from ppar_lightning.cli import main
from ppar_lightning.report.chart import GROUPS, draw_curves
from ppar_lightning.runs.curves import read_metrics, read_rows
from ppar_lightning.runs.manifest import read_manifest


def rows(logger) -> list[dict[str, str]]:
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def logger(tmp_path):
    logger = CurvesLogger(tmp_path, "curves/fit")
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.save()
    return logger


def test_a_new_column_keeps_the_rows(logger):
    logger.log_metrics({"miou": 0.5}, step=2)
    logger.save()
    assert rows(logger) == [{"loss": "2.0", "miou": "", "step": "1"}, {"loss": "", "miou": "0.5", "step": "2"}]


def test_a_run_that_ends_while_a_column_is_added_loses_no_row(logger, monkeypatch):
    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loggers, "write_whole", killed)
    logger.log_metrics({"miou": 0.5}, step=2)
    with pytest.raises(KeyboardInterrupt):
        logger.save()
    assert rows(logger) == [{"loss": "2.0", "step": "1"}]


def test_a_full_disk_loses_no_earlier_row_and_is_named(logger):
    path, written = Path(logger.log_dir) / "metrics.csv", rows(logger)
    for loss in range(1000):
        logger.log_metrics({"loss": float(loss), "miou": 0.5}, step=2)  # the logger itself writes at every hundredth
    with small_files(), pytest.raises(OSError, match="File too large"):
        logger.save()
    assert [row["loss"] for row in rows(logger)[: len(written)]] == [row["loss"] for row in written]
    assert set(rows(logger)[0]) == {"loss", "miou", "step"}
    for column in range(1000):
        logger.log_metrics({f"column {column}": 0.0}, step=3)
    with small_files(), pytest.raises(OSError, match=f"{path}"):
        logger.save()
    assert [row["loss"] for row in rows(logger)[: len(written)]] == [row["loss"] for row in written]


def test_a_row_that_was_cut_off_is_never_joined_to_a_later_one(logger):
    path = Path(logger.log_dir) / "metrics.csv"
    for loss in range(1000):
        logger.experiment.log_metrics({"loss": loss / 7}, step=loss)
    with small_files(), pytest.raises(OSError, match="File too large"):
        logger.save()
    assert not path.read_bytes().endswith(b"\n")
    logger.save()
    assert path.read_bytes().startswith(b"loss,step\r\n2.0,1\r\n0.0,0\r\n")
    assert len(rows(logger)) > 1000
    assert all(row["step"] and set(row) == {"loss", "step"} for row in rows(logger))
    assert rows(logger)[-1]["step"] == "999"


def test_malformed_rows_are_skipped(tmp_path):
    path = tmp_path / "curves/fit/version_0/metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("loss,step\n2.0,1\n1.9,21.8,3\n1.7\n1.6,4\n")
    assert read_metrics(tmp_path) == {"loss": {1: 2.0, 4: 1.6}}


def test_a_resumed_run_writes_beside_the_earlier_curves(logger, tmp_path):
    second = CurvesLogger(tmp_path, "curves/fit")
    second.log_metrics({"loss": 1.0}, step=2)
    second.save()
    assert Path(second.log_dir) == Path(logger.log_dir).with_name("version_1")
    assert rows(logger) == [{"loss": "2.0", "step": "1"}]


def test_half_of_a_last_row_is_not_read(logger):
    path = Path(logger.log_dir) / "metrics.csv"
    with path.open("a") as file:
        file.write("1.23")
    assert read_rows(path) == [{"loss": "2.0", "step": "1"}]
    assert read_rows(path.with_name("none.csv")) == []


PAGE = Path(__file__).parents[1] / "docs" / "howto" / "wandb.md"


class Logged(NamedTuple):
    folder: Path
    output: str  # of both sessions of the training and of its test
    asked: list[dict]  # what `wandb.init` was given in each of the three
    runs: list[wandb.Run]


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Logged:
    """Two steps with the loggers of the page, continued from the first, and the test."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    os.environ["PPAR_CACHE"] = str(folder.parent / "cache")
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (folder.parent / "loggers.yaml").write_text(block.replace("runs/demo", str(folder)))
    words = ["fit", "--config", CONFIG, "--config", str(folder.parent / "loggers.yaml"), *SMALL[4:]]
    words += [
        "--trainer.default_root_dir",
        str(folder),
        "--trainer.limit_val_batches",
        "1",
        "--trainer.val_check_interval",
        "2",
    ]
    words += ["--trainer.max_steps", "2", "--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1"]
    asked, runs, init, output = [], [], wandb.init, StringIO()

    def recorded(**given):
        asked.append(given)
        runs.append(init(**given))
        return runs[-1]

    wandb.finish()  # a run of another test would be gone on with
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(wandb, "init", recorded)
        main(words)
        wandb.finish()
        main([*words, "--ckpt_path", str(next(folder.glob("checkpoints/*step=1.ckpt")))])
        wandb.finish()
        evaluate(folder)
        wandb.finish()
    return Logged(folder, output.getvalue(), asked, runs)


def test_a_resumed_run_is_one_in_wandb_and_its_test_another_in_its_group(logged):
    first, second, test = logged.asked
    ids = [run.id for run in logged.runs]
    assert first["id"] is None
    assert second["id"] == ids[0] == ids[1] != ids[2]
    assert {each["resume"] for each in logged.asked} == {"allow"}
    assert [each["job_type"] for each in logged.asked] == ["fit", "fit", "test"]
    assert first["group"] == second["group"] == test["group"]
    assert re.fullmatch(r"run-[0-9a-f]{6}", first["group"])
    assert read_manifest(logged.folder)["wandb"] == {"id": ids[0], "group": first["group"]}


def test_every_logger_has_the_whole_config_and_what_it_does_not_hold(logged):
    config = yaml.safe_load((logged.folder / "config.yaml").read_text())
    assert len(config["trainer"].pop("logger")) == 3
    for folder in ("tensorboard/version_0", "csv/version_0", "curves/fit/version_0"):
        told = yaml.safe_load((logged.folder / folder / "hparams.yaml").read_text())
        about = {name: told.pop(name) for name in ("seed", "git", "parameters", "protocol", "target_selection")}
        assert told == config
        assert about["seed"] == 0
        assert about["protocol"]["fog"] == "full"
        parts = about["parameters"]
        assert parts["classifier"] == (64 + 1) * 19  # a 1x1 convolution with bias
        assert parts["total"] == sum(parts.values()) - parts["total"] - parts["trainable"]
    last = torch.load(logged.folder / "checkpoints" / "last.ckpt")
    assert parts["trainable"] == sum(each["exp_avg"].numel() for each in last["optimizer_states"][0]["state"].values())
    in_wandb = dict(logged.runs[0].config)
    assert {name: in_wandb[name] for name in about} == about
    assert in_wandb["model"] == told["model"]
    assert in_wandb["trainer"]["max_steps"] == 2
    (file, _) = logged.folder.glob(f"wandb/*-{logged.runs[0].id}/files/run/config.yaml")
    assert yaml.safe_load(file.read_text()) == told


def test_curves_are_in_the_run_folder_whatever_the_loggers(logged):
    curves = read_metrics(logged.folder)
    assert set(curves["train/loss"]) == {0, 1}
    assert set(draw_curves(logged.folder)) == {group[0] for group in GROUPS}
    board = EventAccumulator(str(logged.folder / "tensorboard" / "version_0")).Reload()
    for name in ("train/loss", "lr/head", "train/images_per_second"):
        assert [event.step for event in board.Scalars(name)] == [0, 1]
        own, ours = (
            [row[name] for row in read_rows(logged.folder / folder / "version_0" / "metrics.csv") if row[name]]
            for folder in ("csv", "curves/fit")
        )
        assert len(own) == 2
        assert own == ours
    assert 0.1 < curves["train/images_per_second"][1] < 1000


def test_a_log_gets_lines_of_the_training_and_of_each_domain(logged):
    curves, lines = read_metrics(logged.folder), logged.output.splitlines()
    assert "\r" not in logged.output
    terms = ", ".join(f"{term} {curves[f'train/loss/{term}'][0]:.3f}" for term in ("ce", "align", "vtp", "anchor"))
    start = f"step 1/2, epoch 0, loss {curves['train/loss'][0]:.3f} ({terms}), "
    (first,) = (line for line in lines if line.startswith("step 1/2"))
    assert re.fullmatch(re.escape(start) + r"[\d.]+ images/s, 0:\d\d:\d\d left", first)
    assert f"step 2, validation: mIoU (%) game {100 * curves['val/game/miou'][1]:.1f}" in lines
    assert len([line for line in lines if line.startswith("step 2/2, epoch ")]) == 1  # the first of the second session
    domains = ("game", "fog", "night", "rain", "snow", "city")
    assert [line for line in lines if line.startswith("test ")] == [f"test {name}: 1/1 batches" for name in domains]
    (counts, _) = (line for line in lines if line.startswith("training "))
    assert re.search(
        r"^training 3.5 M of 6.4 M parameters \(backbone 3.0 M, .*classifier 1.2 K.*\) on \d+ CPU cores", counts
    )
    assert not re.search("FLOPs|v_num|/-2", logged.output)


def test_loggers_that_the_config_names_and_none(tmp_path):
    elsewhere = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path)]
    *kept, curves = run_loggers(elsewhere, str(tmp_path), "fit", False)
    assert kept == elsewhere
    assert Path(curves.log_dir) == tmp_path / "curves" / "fit" / "version_0"
    assert run_loggers(False, str(tmp_path), "fit", False) is False


def test_what_the_user_says_about_the_wandb_run_wins(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text('{"sessions": [], "finished": false, "wandb": {"id": "a", "group": "b"}}')
    asked = []
    monkeypatch.setattr(wandb, "init", lambda **given: asked.append(given))

    def ask(command: str, **options) -> dict:
        logger, _ = run_loggers(WandbLogger(save_dir=tmp_path, **options), str(tmp_path), command, command == "fit")
        assert logger.experiment is None
        return asked[-1]

    wandb.finish()
    assert ask("fit").items() >= {"id": "a", "group": "b", "job_type": "fit", "resume": "allow"}.items()
    mine = {"id": "mine", "group": "ours", "job_type": "sweep", "resume": "never"}
    assert ask("fit", **mine).items() >= mine.items()
    assert "id" not in {name for name, value in ask("validate").items() if value is not None}
    monkeypatch.setenv("WANDB_RUN_ID", "of the environment")
    monkeypatch.setenv("WANDB_RUN_GROUP", "of the environment")
    given = ask("fit")
    assert given["id"] is given.get("group") is None
    assert given["job_type"] == "fit"
