"""Memory, files and processes of a long run of a small demo: ``python benchmarks/leaks.py``. Reads /proc: Linux.

The demo's model and callbacks train on small crops, with a validation of the source every few epochs. Memory, open
files and processes are recorded every 50 steps. The exit status is 1 if resident memory ever differs by more than 2 %
from its value at step 200, or if the number of open files or processes changes at all.
"""

import argparse
import csv
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from rich.console import Console
from rich.table import Table

from ppar_lightning.cli import main as ppar

INTERVAL = 50
WARM_UP = 200
TOLERANCE = 0.02
CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Resources of a process and its children."""

    step: int
    own: float
    """Resident memory of the process, in MiB."""
    workers: float
    """Resident memory of its children, in MiB."""
    files: int
    """Number of open file descriptors of the process."""
    children: int

    @property
    def resident(self) -> float:
        """Resident memory of all processes, in MiB."""
        return self.own + self.workers


class UsageLog(L.Callback):
    """Append to ``usage.csv`` in the run folder every 50 steps."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the usage."""
        if trainer.global_step % INTERVAL == 0:
            with (Path(trainer.default_root_dir) / "usage.csv").open("a", newline="") as file:
                csv.writer(file).writerow(measure(trainer.global_step))


def measure(step: int) -> Usage:
    """Measure this process and its children."""
    own = Path("/proc/self")
    children = [Path("/proc") / pid for task in own.glob("task/*/children") for pid in task.read_text().split()]
    resident, *others = (int((each / "statm").read_text().split()[1]) * PAGE / 2**20 for each in (own, *children))
    return Usage(step, resident, sum(others), len(list((own / "fd").iterdir())), len(children))


def train(folder: Path, steps: int) -> list[Usage]:
    """Train the small demo in a folder and return its usage."""
    settings = {
        "trainer.default_root_dir": str(folder),
        "trainer.max_steps": str(steps),
        "trainer.enable_progress_bar": "false",
        "trainer.check_val_every_n_epoch": "3",
        "trainer.limit_val_batches": "2",
        "trainer.log_every_n_steps": "10",
        "trainer.callbacks+": "leaks.UsageLog",
        "data.sources.game.limit": "64",
        "data.crop": "[64, 128]",
        "data.batch_size": "2",
        "data.eval_batch_size": "2",
    }
    ppar(["fit", "--config", str(CONFIG), *(f"--{name}={value}" for name, value in settings.items())])
    with (folder / "usage.csv").open(newline="") as file:
        return [Usage(int(a), float(b), float(c), int(d), int(e)) for a, b, c, d, e in csv.reader(file)]


def main() -> None:
    """Train, print the usage, and check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        usages = [each for each in train(Path(folder), steps) if each.step >= WARM_UP]
    table = Table("step", "process MiB", "workers MiB", "open files", "workers", title="Held by a run")
    for each in usages:
        table.add_row(str(each.step), f"{each.own:.1f}", f"{each.workers:.1f}", str(each.files), str(each.children))
    console = Console()
    console.print(table)
    first, last = usages[0], usages[-1]
    growth = last.resident / first.resident - 1
    slope = statistics.linear_regression([u.step for u in usages], [u.resident for u in usages]).slope
    worst = max((each.resident / first.resident - 1 for each in usages), key=abs)
    console.print(
        f"resident {growth:+.2%} from step {first.step} to {last.step}, at most {worst:+.2%} on the way, "
        f"trend {1000 * slope:+.1f} MiB per 1,000 steps"
    )
    if abs(worst) > TOLERANCE or len({each[3:] for each in usages}) > 1:
        sys.exit("not flat")


if __name__ == "__main__":
    main()
