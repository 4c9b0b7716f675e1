"""The findings on the terminal, and all of them in a file."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ppar_lightning.doctor.finding import Finding
from ppar_lightning.images.classes import CLASSES

STYLES = {"ok": "green", "note": "yellow", "error": "bold red"}
SHOWN = 5
"""Findings of one kind about one subject that are printed; the rest are in the file."""
PIPE_WIDTH = 10_000
"""Columns of a line that goes to a file or another program, which is never broken."""


class Report:
    """Prints findings as they come in, and keeps them.

    Attributes:
        console: Where they are printed; without a terminal the lines are plain.
        findings: All of them so far.
    """

    def __init__(self, file: Path) -> None:
        """Start a report.

        Args:
            file: Where `save` will write all findings.
        """
        terminal = Console().is_terminal
        self.console = Console(highlight=False, width=None if terminal else PIPE_WIDTH)
        self.findings: list[Finding] = []
        self.file = file

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep findings and print them, one a line; of many about one subject the first few."""
        found = list(findings)
        self.findings += found
        for (level, subject), group in groupby(found, key=lambda finding: (finding.level, finding.subject)):
            lines = list(group)
            rest = Finding(level, subject, f"and {len(lines) - SHOWN:,} more, all in {self.file}")
            for finding in [*lines[:SHOWN], *([rest] if len(lines) > SHOWN else [])]:
                text = Text(str(finding))
                text.stylize(STYLES[level], 0, len(level))
                self.console.print(text, soft_wrap=True)

    @property
    def failed(self) -> bool:
        """Whether training or testing would fail."""
        return any(finding.level == "error" for finding in self.findings)

    def save(self) -> None:
        """Write all findings, one a line, and print the verdict."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("".join(f"{finding}\n" for finding in self.findings))
        errors, notes = (sum(finding.level == level for finding in self.findings) for level in ("error", "note"))
        counted = f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}"
        end = "training or testing would fail" if self.failed else "ready to train"
        self.console.print(f"Samples with their labels, and all findings: {self.file.parent}", soft_wrap=True)
        self.console.print(f"{counted}: {end}", soft_wrap=True)

    def add_histogram(self, pixels: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Print class x domain: per cent of the samples' labelled pixels, and of all pixels the ignored ones.

        Args:
            pixels: (256,) pixels of each train id by domain.
        """
        table = Table(title="Pixels of the samples (%)", box=SIMPLE if self.console.is_terminal else None)
        table.add_column("class")
        for name in pixels:
            table.add_column(name, justify="right")
        for k, label in enumerate(CLASSES):
            table.add_row(label, *(_percent(count[k], count[: len(CLASSES)].sum()) for count in pixels.values()))
        table.add_section()
        table.add_row("ignored", *(_percent(count[len(CLASSES) :].sum(), count.sum()) for count in pixels.values()))
        self.console.print(table)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if part else "-"
