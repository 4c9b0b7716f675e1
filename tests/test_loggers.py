"""Curves survive whatever happens while they are written."""

import csv
import errno
from pathlib import Path

import pytest
from test_disk import small_files

from ppar_lightning.callbacks import loggers
from ppar_lightning.callbacks.loggers import default_logger
from ppar_lightning.runs.curves import read_rows


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


def test_a_full_disk_cuts_no_row_is_named_and_hides_no_other_error(logger):
    path, written = Path(logger.log_dir) / "metrics.csv", rows(logger)
    for loss in range(1000):
        logger.log_metrics({"loss": float(loss)}, step=2)  # the logger itself writes at every hundredth
    with small_files(), pytest.raises(OSError, match=rf"{path}") as full:
        logger.save()
    assert full.value.errno == errno.EFBIG
    assert rows(logger) == written
    with small_files(), pytest.warns(UserWarning, match="the last of the curves are not written: .*metrics.csv"):
        logger.finalize("failed")
    with small_files(), pytest.raises(OSError, match="metrics.csv"):
        logger.finalize("success")
    logger.log_metrics({"miou": 0.5}, step=3)  # a new column
    with small_files(), pytest.raises(OSError, match="metrics.csv"):
        logger.save()
    assert rows(logger) == written
    logger.save()  # there is room again
    assert len(rows(logger)) == len(read_rows(path)) == 1002
    assert set(rows(logger)[-1]) == {"loss", "miou", "step"}


def test_half_of_a_last_row_is_not_read(logger):
    path = Path(logger.log_dir) / "metrics.csv"
    with path.open("a") as file:
        file.write("1.23")
    assert read_rows(path) == [{"loss": "2.0", "step": "1"}]
    assert read_rows(path.with_name("none.csv")) == []
