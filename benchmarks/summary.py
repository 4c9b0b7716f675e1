"""Summarise ``make reproduce``: ``python benchmarks/summary.py runs/reproduce/demo``.

Reads ``{row}/{seed}/test.json`` and prints mean and standard deviation over seeds, and the paired difference to the row
``source_only`` on the unseen mean.
"""

import json
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

BASELINE = "source_only"


def read(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return row -> seed -> domain -> mIoU in per cent, the mean over unseen domains among them."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(folder.glob("*/*/test.json")):
        record = json.loads(path.read_text())
        scores = {name: 100 * domain["miou"] for name, domain in record["domains"].items()}
        scores["unseen (mean)"] = 100 * record["unseen_miou"]
        rows.setdefault(path.parts[-3], {})[path.parts[-2]] = scores
    return rows


def spread(values: list[float], sign: str = "") -> str:
    """Format mean and, for several values, standard deviation."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{deviation}"


def tabulate(rows: dict[str, dict[str, dict[str, float]]]) -> Table:
    """Tabulate row x domain, the difference to the baseline over shared seeds, and the seeds it wins."""
    domains = list(next(iter(next(iter(rows.values())).values())))
    table = Table(title="mIoU (%), last checkpoint")
    for column in ("row", "seeds", *domains, "paired difference", "wins"):
        table.add_column(column, justify="left" if column == "row" else "right")
    baseline = rows.get(BASELINE, {})
    for name, seeds in sorted(rows.items(), key=lambda item: item[0] != BASELINE):
        gains = [s["unseen (mean)"] - baseline[k]["unseen (mean)"] for k, s in seeds.items() if k in baseline]
        against = name != BASELINE and gains
        cells = [spread([scores[domain] for scores in seeds.values()]) for domain in domains]
        wins = f"{sum(gain > 0 for gain in gains)}/{len(gains)}" if against else ""
        table.add_row(name, str(len(seeds)), *cells, spread(gains, "+") if against else "", wins)
    return table


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    if not found:
        sys.exit(f"{sys.argv[1]}: no */*/test.json, run `make reproduce` first")
    Console().print(tabulate(found))
