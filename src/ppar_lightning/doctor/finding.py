"""Findings of the checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ``error`` if training would fail, ``note`` if it would not do what one may expect.
        subject: What was checked, such as ``gta/train``.
        message: The result, with a remedy if there is one. Line breaks become spaces.
    """

    level: Level
    subject: str
    message: str

    def __str__(self) -> str:
        """Format the line."""
        return f"{self.level:<5}  {self.subject}: {' '.join(self.message.split())}"


def faults(subject: str, check: Callable[[], object], level: Level = "error") -> list[Finding]:
    """Run a check that raises an error where ``ppar fit`` would; return its error as a finding, or nothing."""
    try:
        check()
    except Exception as error:  # whatever it is, the rest is still to be looked at
        return [Finding(level, subject, fault(error))]
    return []


def fault(error: Exception) -> str:
    """Format an error. Those of the project name the remedy; for others, the kind and where to look are added."""
    if isinstance(error, ValueError | OSError | ImportError):
        return str(error)
    return f"{type(error).__name__}: {error}; PPAR_TRACEBACK=1 ppar fit shows where it comes from"
