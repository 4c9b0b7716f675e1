"""Configs within bounds, and errors of the command line in one line, which names the thing and the remedy."""

import os
import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from ppar_lightning.disk.files import NO_SPACE

MAX_DEPTH = 100
MAX_NODES = 100_000
"""Of a config, aliases counted as often as they are used; gta.yaml has 4 levels and some hundred nodes."""
load_yaml = get_loader("yaml")


def load_bounded(text: str) -> Any:
    """Load YAML that is neither so deep nor, through aliases of aliases, so large that nothing could go through it.

    Raises:
        yaml.YAMLError: It is, or it is no YAML.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0  # without recursion, which the very depth would break
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
        if isinstance(event, yaml.NodeEvent):
            total += sizes.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor or ""] = total - before
        if len(open_nodes) > MAX_DEPTH:
            raise yaml.YAMLError(f"the config is nested more than {MAX_DEPTH} deep; write a config of fewer levels")
        if total > MAX_NODES:
            raise yaml.YAMLError(
                f"the config holds more than {MAX_NODES:,} values, with those that aliases repeat; write fewer"
            )
    return load_yaml(text)


set_loader("yaml", load_bounded, exceptions=(yaml.YAMLError,))


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
    """Print an error in one line and exit; a rank other than the first says which it is.

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
    rank = getattr(rank_zero_only, "rank", 0)
    who = f"rank {rank}: " if rank else ""  # what all ranks raise, all say
    print(f"ppar: error: {who}{' '.join(lines)}", file=sys.stderr)
    sys.exit(status)
