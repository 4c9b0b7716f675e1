"""Findings of the checks."""

from collections.abc import Callable
from typing import Literal, NamedTuple

Level = Literal["ok", "note", "error"]


class Finding(NamedTuple):
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


def attempt(subject: str, check: Callable[[], object], good: str = "", level: Level = "error") -> list[Finding]:
    """Run a check that raises an error where ``ppar fit`` would.

    Args:
        subject: What is checked.
        check: The check.
        good: The finding if no error is raised; without it there is none.
        level: Level of the error.
    """
    try:
        check()
    except Exception as error:  # whatever it is, the rest is still to be looked at
        return [Finding(level, subject, fault(error))]
    return [Finding("ok", subject, good)] if good else []


def fault(error: Exception) -> str:
    """Format an error. Those of the project name the remedy; for others, the kind and where to look are added."""
    if isinstance(error, ValueError | OSError | ImportError):
        return str(error)
    return f"{type(error).__name__}: {error}; PPAR_TRACEBACK=1 ppar fit shows where it comes from"
