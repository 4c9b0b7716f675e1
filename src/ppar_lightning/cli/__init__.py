"""The command ``ppar``. Each subcommand imports what it needs only when it is called, so that help appears at once.

ppar {fit,validate,test,predict,doctor} --config configs/demo.yaml
ppar predict pictures/ --run runs/demo, ppar report runs/reproduce/demo, ppar export --run runs/demo
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from ppar_lightning.cli.words import expanded
from ppar_lightning.console import leave
from ppar_lightning.shortage import shortage

TRAINING = ("fit", "validate", "test", "predict", "doctor")
"""Subcommands that take a training config."""
OTHERS = {
    "report": "ppar_lightning.report.arguments",
    "export": "ppar_lightning.export",
    "convert": "ppar_lightning.convert",
    "score": "ppar_lightning.score",
    "reproduce": "ppar_lightning.reproduce",
    "configs": "ppar_lightning.shipped_configs",
}
"""Subcommand that parses its own arguments -> module whose ``main`` runs it."""
HELP = ("-h", "--help")
PAGES = Path(__file__).parent
"""Folder of the help texts, which are shown without importing anything."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Command-line arguments without the program's name; None takes those of this process.
    """
    # Waiting threads would otherwise spin and slow down other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command, *words = map(expanded, (sys.argv[1:] if args is None else args) or HELP)
    try:
        if command in HELP:
            print((PAGES / "overview.txt").read_text(), end="")
        elif command in TRAINING and any(word in HELP for word in words):
            print((PAGES / "options.txt").read_text(), end="")
        elif command in TRAINING:
            from ppar_lightning.cli.training import run

            run([command, *words], launched=args is None)
        elif command in OTHERS:
            also = {"resolve": resolve} if command == "reproduce" else {}
            import_module(OTHERS[command]).main(words, **also)
        else:
            remedy = "`ppar --help` lists them, and options follow the subcommand, as in `ppar fit --config gta`"
            raise ValueError(f"there is no subcommand {command!r}; {remedy}")
    except Exception as error:
        said = shortage(error, command)
        if said is None and not isinstance(error, ImportError | OSError | ValueError):
            raise  # a defect, which its traceback helps to find
        if args is None:
            sys.unraisablehook = lambda _: None  # what falls over while the process ends is no news
        leave(error, said=said)
    except KeyboardInterrupt:  # before there is a checkpoint to continue from
        leave("interrupted", status=130)


def resolve(words: Sequence[str]) -> dict[str, Any]:
    """Resolve command-line arguments of ``ppar fit`` into the config that it would save."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            main(["fit", *words, "--print_config"])
    except SystemExit as end:
        if end.code:
            raise
    from ppar_lightning.images.classes import keep_lists

    resolved = yaml.safe_load(printed.getvalue())
    keep_lists(resolved["data"])
    return resolved
