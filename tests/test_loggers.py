"""Curves survive whatever happens while they are written."""

import csv
from pathlib import Path

import pytest
from test_disk import small_files

from ppar_lightning.callbacks import loggers
from ppar_lightning.callbacks.loggers import default_logger
from ppar_lightning.runs.curves import read_metrics, read_rows


def rows(logger) -> list[dict[str, str]]:
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def logger(tmp_path):
    logger = default_logger(str(tmp_path), "fit")
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


def test_a_full_disk_hides_no_other_error_of_the_run(logger):
    for column in range(1000):
        logger.log_metrics({f"column {column}": 0.0}, step=2)
    with small_files():
        logger.finalize("failed")
        with pytest.raises(OSError, match="metrics.csv"):
            logger.finalize("success")


def test_a_resumed_run_writes_beside_the_earlier_curves(logger, tmp_path):
    second = default_logger(str(tmp_path), "fit")
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
