"""Options that only ``ppar test`` has, and the model of others that it scores in place of a run's network."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule

from ppar_lightning.console import PlainParser, add_ci
from ppar_lightning.images.classes import ClassList
from ppar_lightning.runs.run_folder import refuse_run
from ppar_lightning.segmenter.foreign import ForeignSegmenter
from ppar_lightning.segmenter.pretrained import revision


def split_off(words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Split the options ``--model`` and ``--ci`` of a test from those of a config; other subcommands have none.

    Args:
        words: Command-line arguments, which begin with the subcommand.

    Returns:
        ``model``, empty if none is given, and ``ci``; and the other arguments.

    Raises:
        ValueError: A checkpoint is given besides a model.
    """
    parser = add_ci(PlainParser("ppar test", add_help=False, allow_abbrev=False))
    parser.add_argument("--model", default="")
    if words[:1] != ["test"]:
        return parser.parse_args([]), [*words]
    given, others = parser.parse_known_args(words)
    if given.model and any(word.partition("=")[0] == "--ckpt_path" for word in others):
        raise ValueError("--model and --ckpt_path both name a network to score: give only one")
    return given, others


def make_room(config: Any, segmenter: Any) -> None:
    """Describe a small network, which is built where nothing of the config's network is needed.

    Args:
        config: Options of the test, which are changed.
        segmenter: Default options of a segmenter.

    Raises:
        FileExistsError: The folder of the scores holds a run.
    """
    refuse_run(Path(config.trainer.default_root_dir), "--trainer.default_root_dir")
    config.model.segmenter, config.model.ppar.enabled = segmenter, False


def install(module: LightningModule, model: str, classes: ClassList) -> dict[str, str]:
    """Put a model of transformers in the place of a module's network, and return its name and revision.

    Args:
        module: The module.
        model: Hub id or folder of the model.
        classes: Classes that it is scored over.
    """
    module.segmenter = ForeignSegmenter(model, classes)
    return {"name": model, "revision": revision(model)}
