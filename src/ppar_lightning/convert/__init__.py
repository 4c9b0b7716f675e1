"""The subcommand ``ppar convert``: files of other programs into those of this one.

ppar convert labels /data/campus maps --images "photos/*.jpg" --labels "colours/*.png" --classes classes.yaml
"""

from collections.abc import Sequence
from importlib import import_module

from ppar_lightning.console import PlainParser

KINDS = ("labels", "weights")
"""Modules of this package, each with a ``main`` of its own."""


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments, of which the first is one of KINDS."""
    if not words or words[0] not in KINDS:
        parser = PlainParser("ppar convert", description="Convert files of other programs; each kind has its --help.")
        parser.add_argument("kind", choices=KINDS, help="labels into maps of train ids, or weights into a checkpoint")
        parser.parse_args(words[:1])  # which shows the help, or says what is wrong
    import_module(f"{__name__}.{words[0]}").main(words[1:])
