"""The command ``ppar``: LightningCLI over the module and the data module.

ppar fit --config configs/demo.yaml
ppar test --config runs/demo/config.yaml
ppar report runs/reproduce/demo
"""

import os
import sys
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from ppar_lightning.callbacks.diagnostics import PrototypeDiagnostics
from ppar_lightning.callbacks.last import LastCheckpoint
from ppar_lightning.callbacks.manifest import RunManifest
from ppar_lightning.callbacks.pictures import PredictionGrid
from ppar_lightning.callbacks.record import RunRecord
from ppar_lightning.callbacks.report import TestReport
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.selection import TargetSelectionGuard
from ppar_lightning.callbacks.skipped import SkippedSamples
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.loggers import default_logger, quieten, stay_offline_without_account
from ppar_lightning.module import PPARModule
from ppar_lightning.parser import OneLineParser, leave
from ppar_lightning.report import command


class PPARCLI(LightningCLI):
    """LightningCLI with a run folder (``trainer.default_root_dir``) and the last checkpoint as default."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer ``fit``, ``validate`` and ``test``."""
        return {name: LightningCLI.subcommands()[name] for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of checkpoints and pictures; derive folder and data seed from what is given."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(PredictionGrid, "pictures")
        parser.add_lightning_class_args(TargetSelectionGuard, "target_selection")
        parser.add_argument("--allow_target_selection", type=bool, default=False, help="Select on unseen domains.")
        parser.link_arguments("allow_target_selection", "target_selection.allow")
        parser.set_defaults({"checkpoint.save_top_k": 0})  # LastCheckpoint writes the one that counts
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=lambda d: f"{d}/checkpoints")
        for name in ("data.seed", "model.seed"):
            parser.link_arguments("seed_everything", name)

    def before_instantiate_classes(self) -> None:
        """Find the last checkpoint, which is evaluated unless another is named."""
        config = self.config[self.subcommand]
        stay_offline_without_account(config.trainer.logger)
        if self.subcommand != "fit" and config.ckpt_path in (None, "last"):
            config.ckpt_path = f"{config.trainer.default_root_dir}/checkpoints/last.ckpt"
            if not Path(config.ckpt_path).is_file():
                raise FileNotFoundError(f"{config.ckpt_path} not found: run `ppar fit` first, or give --ckpt_path")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Log to CSV unless a logger is named."""
        config = self.config_init[self.subcommand].trainer
        if config.logger in (None, True):
            kwargs["logger"] = default_logger(config.default_root_dir, self.subcommand or "")
        return super().instantiate_trainer(**kwargs)

    def before_test(self) -> None:
        """Leave the table to the report."""
        self.config_init.test.verbose = False


def main(args: ArgsType = None) -> None:
    """Run the command line, with ``args`` in place of ``sys.argv`` if they are given."""
    words = sys.argv[1:] if args is None else args
    quieten()
    scores = DomainScores()
    callbacks = [scores, TestReport(scores), PrototypeDiagnostics(), SkippedSamples()]
    callbacks += [RunManifest(), LastCheckpoint()]
    options: dict[str, Any] = {"parser_class": OneLineParser, "seed_everything_default": 0, "args": args}
    options["trainer_defaults"] = {"callbacks": callbacks, "default_root_dir": "runs/ppar"}
    options["parser_kwargs"] = {"description": "PPAR in PyTorch Lightning; `ppar report --help` compares runs"}
    try:
        if isinstance(words, list) and words[:1] == ["report"]:
            command.main(words[1:])
            return
        PPARCLI(PPARModule, DomainDataModule, RunRecord, auto_configure_optimizers=False, **options)
    except (ImportError, OSError, ValueError, MisconfigurationException) as error:
        if "PPAR_TRACEBACK" in os.environ:
            raise
        leave(error)
