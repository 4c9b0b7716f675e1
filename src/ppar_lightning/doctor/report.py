"""The findings on the terminal, and all of them in a file."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ppar_lightning.data.classes import CLASSES
from ppar_lightning.doctor.finding import Finding

STYLES = {"ok": "green", "note": "yellow", "error": "bold red"}
SHOWN = 5
"""Findings of one kind about one subject that are printed; the rest are in the file."""


def show(console: Console, findings: Sequence[Finding], file: Path) -> None:
    """Print findings, one a line; of many about one subject the first few.

    Args:
        console: Where to.
        findings: What to say, those about one subject together.
        file: Where the others will be found.
    """
    for (level, subject), group in groupby(findings, key=lambda finding: (finding.level, finding.subject)):
        lines = list(group)
        rest = Finding(level, subject, f"and {len(lines) - SHOWN:,} more, all in {file}")
        for finding in [*lines[:SHOWN], *([rest] if len(lines) > SHOWN else [])]:
            text = Text(str(finding))
            text.stylize(STYLES[level], 0, len(level))
            console.print(text, soft_wrap=True)


def histogram(console: Console, pixels: Mapping[str, npt.NDArray[np.int64]]) -> Table:
    """Tabulate class x domain: per cent of the samples' labelled pixels, and of all pixels the ignored ones.

    Args:
        console: Where it will be printed; without a terminal the lines are plain.
        pixels: (256,) pixels of each train id by domain.
    """
    table = Table(title="Pixels of the samples (%)", box=SIMPLE if console.is_terminal else None)
    table.add_column("class")
    for name in pixels:
        table.add_column(name, justify="right")
    for k, label in enumerate(CLASSES):
        table.add_row(label, *(_percent(count[k], count[: len(CLASSES)].sum()) for count in pixels.values()))
    table.add_section()
    table.add_row("ignored", *(_percent(count[len(CLASSES) :].sum(), count.sum()) for count in pixels.values()))
    return table


def verdict(findings: Sequence[Finding]) -> str:
    """Sum the findings up."""
    errors, notes = (sum(finding.level == level for finding in findings) for level in ("error", "note"))
    end = "training or testing would fail" if errors else "ready to train"
    return f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}: {end}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if part else "-"
