"""Errors of the command line in one line, which names the thing and the remedy."""

import os
import sys
from argparse import ArgumentParser
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from ppar_lightning.files import NO_SPACE


class OneLineParser(LightningArgumentParser):
    """Parser that reports an unknown key or a bad value in one line, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and leave with status 2."""
        leave(message, status=2)


class PlainParser(ArgumentParser):
    """Parser of a command that trains nothing; its errors are of the same form."""

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with status 2."""
        leave(message, status=2)


def leave(error: object, status: int = 1) -> NoReturn:
    """Print an error in one line and exit.

    Args:
        error: An exception or a message; of several lines (an error in a worker process carries its traceback, a
            parser's error the path of keys that led to it) the headings are dropped and the rest is joined.
        status: Exit status.

    Raises:
        The exception itself, where ``PPAR_TRACEBACK`` is set.
    """
    if isinstance(error, Exception) and "PPAR_TRACEBACK" in os.environ:
        raise error
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any(line.startswith("Traceback") or "Original Traceback" in line for line in lines):
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        lines.append("(free some space, or move the run folder to another disk; a run goes on with --ckpt_path last)")
    print(f"ppar: error: {' '.join(lines)}", file=sys.stderr)
    sys.exit(status)
