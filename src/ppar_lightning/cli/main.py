"""The command ``ppar``. Each subcommand loads what it needs when it is called, so that help is there at once.

ppar {fit,validate,test,predict,doctor} --config configs/demo.yaml
ppar predict pictures/ --run runs/demo, ppar report runs/reproduce/demo, ppar export --run runs/demo
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

from ppar_lightning.console import leave

TRAINING = ("fit", "validate", "test", "predict", "doctor")
"""Subcommands that take a training config."""
OTHERS = ("report", "export", "reproduce", "configs")
"""Subcommands that parse their own words."""
HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, with ``args`` in place of ``sys.argv`` if they are given."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would slow down other processes manyfold
    words = list(sys.argv[1:] if args is None else args)
    try:
        command = words[0] if words else "--help"
        if command in HELP:
            print((Path(__file__).parent / "overview.txt").read_text(), end="")
        elif command in TRAINING and any(word in HELP for word in words):
            print((Path(__file__).parent / "options.txt").read_text(), end="")
        elif command in TRAINING or command.startswith("-"):
            from ppar_lightning.cli.training import run

            run(["--help" if word == "--help.all" else word for word in words], launched=args is None)
        else:
            find(command)(words[1:])
    except (ImportError, OSError, ValueError, UnpicklingError) as error:
        leave(error)
    except KeyboardInterrupt:  # before there is anything to go on from
        leave("interrupted", status=130)


def find(command: str) -> Callable[[Sequence[str]], None]:
    """Import a subcommand that parses its own words.

    Raises:
        ValueError: There is no such subcommand.
    """
    if command == "report":
        from ppar_lightning.report import arguments

        return arguments.main
    if command == "export":
        from ppar_lightning import export

        return export.main
    if command == "configs":
        from ppar_lightning import shipped_configs

        return shipped_configs.main
    if command == "reproduce":
        from ppar_lightning import reproduce
        from ppar_lightning.cli.training import resolve

        return partial(reproduce.main, resolve=resolve)
    raise ValueError(f"there is no subcommand {command!r}; `ppar --help` lists them")
