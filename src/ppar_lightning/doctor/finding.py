"""Findings of the checks of ``ppar doctor``."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from ppar_lightning.console import plain
from ppar_lightning.shortage import shortage

Level = Literal["ok", "note", "error"]


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        level: ``error`` if training or testing would fail, ``note`` if it would work but not as one may expect, else
            ``ok``.
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
        subject: Subject of the finding.
        check: Function to call.
        good: Message of the finding if no error is raised, by default the text that the check returns. Without one,
            there is no such finding.
        level: Level of the finding if an error is raised.
    """
    try:
        result = check()
    except Exception as error:  # any error is a finding, so that the other checks still run
        return [Finding(level, subject, fault(error))]
    said = good or (result if isinstance(result, str) else "")
    return [Finding("ok", subject, said)] if said else []


def fault(error: Exception) -> str:
    """Format an error. The project's own errors name a remedy; others get their type and a hint where to look."""
    if said := shortage(error, "doctor"):
        return said
    if isinstance(error, ValueError | OSError | ImportError):
        return plain(error)
    return f"{type(error).__name__}: {error}; PPAR_TRACEBACK=1 ppar fit shows where it comes from"
