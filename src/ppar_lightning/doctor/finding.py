"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ``error`` where training would fail, ``note`` where it would run otherwise than one may expect.
        subject: What was looked at, such as ``gta/train``.
        message: What was seen, with the remedy if there is one to give; line breaks become spaces.
    """

    level: Level
    subject: str
    message: str

    def __str__(self) -> str:
        """Lay the line out."""
        return f"{self.level:<5}  {self.subject}: {' '.join(self.message.split())}"


def fault(error: Exception) -> str:
    """Say an error in words: the project's own name the remedy, of any other the kind is told too."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}; PPAR_TRACEBACK=1 ppar fit shows where it comes from"
