"""The command ``ppar``: LightningCLI over the module and the data module.

ppar {fit,validate,test,predict,doctor} --config configs/demo.yaml
ppar predict pictures/ --run runs/demo, ppar report runs/reproduce/demo, ppar export --run runs/demo
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ppar_lightning.callbacks import default_callbacks
from ppar_lightning.callbacks.finite_guard import FiniteGuard, Policy
from ppar_lightning.callbacks.loggers import default_logger, quieten, stay_offline_without_account
from ppar_lightning.callbacks.prediction_grid import PredictionGrid
from ppar_lightning.callbacks.prediction_writer import PredictionWriter
from ppar_lightning.callbacks.record import RunRecord
from ppar_lightning.callbacks.selection import TargetSelectionGuard
from ppar_lightning.cli.words import DESCRIPTION, PLAIN, spelt_out
from ppar_lightning.console import OneLineParser, leave
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.doctor.command import DoctorTrainer, examine
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.checkpoints import find_checkpoint


class PPARCLI(LightningCLI):
    """LightningCLI with a run folder (``trainer.default_root_dir``) and the last checkpoint as default."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer those of Lightning and ``doctor``."""
        return {**LightningCLI.subcommands(), "doctor": set()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of checkpoints and pictures; derive folder and data seed from what is given."""
        groups: dict[str, Any] = {"checkpoint": ModelCheckpoint, "target_selection": TargetSelectionGuard}
        groups |= {"pictures": PredictionGrid, "predictions": PredictionWriter, "finite": FiniteGuard}
        for name, callback in groups.items():
            parser.add_lightning_class_args(callback, name)
        parser.add_argument("--allow_target_selection", type=bool, default=False, help="Select on unseen domains.")
        parser.add_argument(
            "--detect_nan", type=Policy, default="raise", help="At a NaN or inf: raise, or skip the step."
        )
        parser.add_argument("--overwrite", action="store_true", help="Predict over earlier predictions.")
        parser.link_arguments("allow_target_selection", "target_selection.allow")
        parser.link_arguments("detect_nan", "finite.policy")
        parser.add_argument("--skip_existing", action="store_true", help="Predict where no map is there yet.")
        for name in ("overwrite", "skip_existing"):
            parser.link_arguments(name, f"predictions.{name}")
        parser.set_defaults({"checkpoint.save_top_k": 0})  # LastCheckpoint writes the one that counts
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=lambda d: f"{d}/checkpoints")
        for name in ("data.seed", "model.seed"):
            parser.link_arguments("seed_everything", name)

    def _parse_ckpt_path(self) -> None:
        """Take no options from a checkpoint, where Lightning would: the config says what to build."""

    def before_instantiate_classes(self) -> None:
        """Find the last checkpoint, which is evaluated unless another is named; the doctor builds nothing.

        Raises:
            ValueError: The checkpoint is damaged, none of a run, or would run code.
        """
        config = self.config[self.subcommand]
        if self.subcommand == "doctor":
            examine(config)
        stay_offline_without_account(config.trainer.logger)
        if config.weights_only is False:
            raise ValueError("--weights_only false would let a checkpoint run code, which none needs; leave it out")
        training = self.subcommand == "fit"
        config.ckpt_path = find_checkpoint(config.trainer.default_root_dir, config.ckpt_path, training)
        if Path(config.ckpt_path or "").is_file():  # or a word of Lightning's
            read_checkpoint(Path(config.ckpt_path), training)  # before anything is built or written
        if not training:
            config["return_predictions" if self.subcommand == "predict" else "verbose"] = False  # callbacks have them

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Log to CSV unless a logger is named; have checkpoints read as tensors and plain values, URLs too."""
        self.config_init[self.subcommand].weights_only = True
        config = self.config_init[self.subcommand].trainer
        if self.subcommand == "predict":
            kwargs["logger"] = False
        elif config.logger in (None, True):
            kwargs["logger"] = default_logger(config.default_root_dir, self.subcommand or "")
        return super().instantiate_trainer(**kwargs)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, with ``args`` in place of ``sys.argv`` if they are given."""
    quieten()
    options: dict[str, Any] = {"trainer_class": DoctorTrainer, "parser_class": OneLineParser}
    options["trainer_defaults"] = {"callbacks": default_callbacks(), "default_root_dir": "runs/ppar"}
    options |= {"seed_everything_default": 0, "parser_kwargs": {"description": DESCRIPTION}}
    try:
        words = spelt_out(sys.argv[1:] if args is None else args)
        if words and words[0] in PLAIN:
            return PLAIN[words[0]](words[1:])
        if args is None:
            sys.argv[1:] = words
        options["args"] = None if args is None else words
        PPARCLI(PPARModule, DomainDataModule, RunRecord, auto_configure_optimizers=False, **options)
    except (ImportError, OSError, ValueError, UnpicklingError, MisconfigurationException) as error:
        leave(error)
    except KeyboardInterrupt:  # before there is anything to go on from
        leave("interrupted", status=130)
