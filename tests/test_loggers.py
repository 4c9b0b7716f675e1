"""Curves survive whatever happens while they are written."""

import csv
from pathlib import Path

import pytest

from ppar_lightning import loggers
from ppar_lightning.loggers import default_logger


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
