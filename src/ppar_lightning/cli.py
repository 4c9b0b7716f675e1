"""The command ``ppar``: LightningCLI over the module and the data module.

ppar fit --config configs/demo.yaml
ppar test --config runs/demo/config.yaml
"""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import wandb
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from ppar_lightning.callbacks.diagnostics import PrototypeDiagnostics
from ppar_lightning.callbacks.pictures import PredictionGrid
from ppar_lightning.callbacks.record import RunRecord
from ppar_lightning.callbacks.report import TestReport
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.module import PPARModule


class OneLineParser(LightningArgumentParser):
    """Parser whose errors are one line, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and leave with status 2."""
        sys.exit(fail(message, status=2))


class PPARCLI(LightningCLI):
    """LightningCLI with a run folder, the last checkpoint as default, and errors of one line."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer ``fit``, ``validate`` and ``test``."""
        commands = LightningCLI.subcommands()
        return {name: commands[name] for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint and picture options; derive folder and data seed from what is given."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(PredictionGrid, "pictures")
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.save_top_k": 0})
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=lambda d: f"{d}/checkpoints")
        parser.link_arguments("seed_everything", "data.seed")

    def before_instantiate_classes(self) -> None:
        """Test the last checkpoint unless told otherwise; keep W&B offline without an account."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit" and config.ckpt_path in (None, "last"):
            config.ckpt_path = f"{config.trainer.default_root_dir}/checkpoints/last.ckpt"
            if not Path(config.ckpt_path).is_file():
                raise FileNotFoundError(f"{config.ckpt_path} not found: run `ppar fit` first, or give --ckpt_path")
        if "WandbLogger" in str(config.trainer.logger) and "WANDB_MODE" not in os.environ and not wandb.api.api_key:
            os.environ["WANDB_MODE"] = "offline"
            print("W&B: no account on this machine, logging offline; `wandb sync` uploads the run later")

    def before_test(self) -> None:
        """Leave the table to the report."""
        self.config_init.test.verbose = False


def fail(error: object, status: int = 1) -> int:
    """Print the last line of an error, which names the thing and the remedy, and return the exit status."""
    print(f"ppar: error: {str(error).strip().splitlines()[-1].strip()}", file=sys.stderr)
    return status


def main(args: ArgsType = None) -> None:
    """Run the command line.

    Args:
        args: Arguments in place of ``sys.argv``, as a list or a nested dict.
    """
    scores = DomainScores()
    callbacks: list[Any] = [scores, TestReport(scores), PrototypeDiagnostics()]
    defaults = {"callbacks": callbacks, "default_root_dir": "runs/ppar", "use_distributed_sampler": False}
    try:
        PPARCLI(
            PPARModule,
            DomainDataModule,
            save_config_callback=RunRecord,
            trainer_defaults=defaults,
            seed_everything_default=0,
            parser_class=OneLineParser,
            auto_configure_optimizers=False,
            args=args,
        )
    except (OSError, ValueError) as error:
        if "PPAR_TRACEBACK" in os.environ:
            raise
        sys.exit(fail(error))
