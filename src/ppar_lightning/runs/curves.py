"""The curves of a training: ``curves/fit/version_*/metrics.csv`` of a run folder."""

import csv
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of metrics. Malformed rows, such as a last one cut short, are left out; a missing file has none."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if line.endswith("\n")))
    return [row for row in rows if None not in row and None not in row.values()]  # as many cells as there are columns


def read_metrics(folder: Path) -> dict[str, dict[int, float]]:
    """Read the metrics of a run over all of its sessions; if two sessions logged the same step, the later one counts.

    Returns:
        Name of the metric -> step -> value.
    """
    metrics: dict[str, dict[int, float]] = {}
    versions = (folder / "curves" / "fit").glob("version_*/metrics.csv")
    for path in sorted(versions, key=lambda path: int(path.parent.name.rpartition("_")[2])):
        for row in read_rows(path):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    metrics.setdefault(name, {})[int(row["step"])] = float(value)
    return metrics
