"""Errors of the command line in one line, which names the fault and the remedy."""

import errno
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import NoReturn

CLOSED = ": allow it with `chmod -R u+rwX`, or copy that folder to where you may write, and give the copy"
"""Remedy for a file or folder that may not be read or written."""


class PlainParser(ArgumentParser):
    """Parser of a command that takes no training config; its errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with status 2."""
        leave(message, status=2)


def add_ci(parser: PlainParser) -> PlainParser:
    """Add the option for intervals of scores, and return the parser."""
    helped = "95 %% intervals by bootstrap over images, from N resamples (1000 without N)"
    parser.add_argument("--ci", type=positive, nargs="?", const=1000, default=0, metavar="N", help=helped)
    return parser


def positive(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of resamples: give 1 or more, such as 1000")
    return int(text)


def plain(error: object) -> str:
    """Join the lines of an error or a message; of a traceback, which a worker process sends, only the last is kept."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any(line.startswith("Traceback") or "Original Traceback" in line for line in lines):
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    closed = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS)
    return " ".join(lines) + CLOSED * closed


def leave(error: object, status: int = 1, said: str | None = None) -> NoReturn:
    """Print an error in one line and exit. Every rank prints its own; ranks other than the first say which they are.

    Args:
        error: An exception, whose notes are added, or a message.
        status: Exit status.
        said: Text that is printed in place of the error's own.

    Raises:
        Exception: ``error`` itself, if ``PPAR_TRACEBACK`` is set.
    """
    if isinstance(error, Exception) and "PPAR_TRACEBACK" in os.environ:
        raise error
    ranks = sys.modules.get("lightning.fabric.utilities.rank_zero")  # if nothing has imported it, there is one process
    rank = getattr(ranks.rank_zero_only, "rank", 0) if ranks else 0
    who = f"rank {rank}: " if rank else ""
    print(f"ppar: error: {who}{plain(said or error)}{''.join(getattr(error, '__notes__', []))}", file=sys.stderr)
    sys.exit(status)
