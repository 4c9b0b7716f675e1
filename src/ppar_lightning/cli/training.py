"""The subcommands that read a training config: LightningCLI over the module and the data module."""

import io
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_warn

from ppar_lightning.callbacks import CONFIGURED, run_callbacks
from ppar_lightning.callbacks.initial_weights import Part, refuse_both, start_from
from ppar_lightning.callbacks.loggers import run_loggers, stay_offline_without_account
from ppar_lightning.callbacks.noise import quieten
from ppar_lightning.callbacks.progress_lines import display
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.cli.flags import listed, named, refuse_flags
from ppar_lightning.cli.parser import OneLineParser, Seed
from ppar_lightning.cli.words import spelt_out, split_off
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.disk.tensors import cause, read_checkpoint
from ppar_lightning.doctor.downloads import check_rendered
from ppar_lightning.doctor.examination import examine
from ppar_lightning.doctor.padding import check_padding
from ppar_lightning.doctor.trial import FIRST_STEP, TrialDoneError
from ppar_lightning.images.classes import inlined, keep_lists
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.changed_options import Overrides, overrides
from ppar_lightning.runs.checkpoints import find_checkpoint, refuse_finished
from ppar_lightning.runs.renamed import current_config, current_words
from ppar_lightning.runs.run_folder import refuse_run
from ppar_lightning.runs.stored import stored
from ppar_lightning.segmenter.foreign import ForeignSegmenter
from ppar_lightning.segmenter.pretrained import revision
from ppar_lightning.shortage import shortage


class PPARCLI(LightningCLI):
    """LightningCLI with a run folder (``trainer.default_root_dir``) and the last checkpoint as default."""

    def __init__(self, **options: Any) -> None:
        """Parse the command-line arguments and run the subcommand that they name.

        Args:
            options: Options of LightningCLI besides those that every subcommand has.
        """
        if options.get("run", True):
            named = options["args"][0]  # the parsers of the others would take a third of a second to build
            vars(self)["subcommands"] = lambda: {named: LightningCLI.subcommands()[named]}
        super().__init__(
            PPARModule,
            DomainDataModule,
            save_config_callback=None,
            trainer_defaults={"default_root_dir": "runs/ppar"},
            parser_class=OneLineParser,
            parser_kwargs={"prog": "ppar"},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the optimiser's class would keep a reference to all that is here
            **options,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed. Unlike Lightning's, it is never drawn nor left open, because the record of a run names it."""
        helped = "Seed of weights, order and augmentation."
        parser.add_argument("--seed_everything", type=Seed, default=0, help=helped)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of callbacks; derive the checkpoint folder and the seeds from other options."""
        for name, callback in CONFIGURED.items():
            parser.add_lightning_class_args(callback, name)
        helped = "Allow unseen domains to select checkpoints."
        parser.add_argument("--allow_target_selection", type=bool, default=False, help=helped)
        parser.add_argument("--weights", type=str | None, help="Run, checkpoint, segmenter or hub id to start from.")
        parser.add_argument("--weights_part", type=Part, default="all", help="What is taken of --weights.")
        parser.add_argument("--overwrite", action="store_true", help="Replace earlier predictions.")
        parser.link_arguments("allow_target_selection", "target_selection.allow")
        parser.add_argument("--skip_existing", action="store_true", help="Leave out pictures that already have a map.")
        parser.link_arguments("overwrite", "predictions.overwrite")
        parser.link_arguments("skip_existing", "predictions.skip_existing")
        parser.set_defaults({"checkpoint.save_top_k": 0})  # LastCheckpoint writes the checkpoint that counts
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=lambda d: f"{d}/checkpoints")
        parser.link_arguments("data.classes", "model.segmenter.classes")  # a checkpoint's replace it below
        parser.link_arguments("seed_everything", "model.for_training", compute_fn=bool)  # no option: it is set below
        parser.link_arguments("seed_everything", "model.text_width", compute_fn=lambda _: None)  # nor is this one
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments without Lightning's warning that they differ from ``sys.argv``."""
        self.words = list(args)
        self.given, args = split_off(self.words)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Read no options from the checkpoint, unlike Lightning: only the config says what to build."""

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint: the last one, unless another is named.

        Raises:
            FileNotFoundError: There is no checkpoint to score or predict with.
            ValueError: The checkpoint is damaged, does not come from a run, would run code, or goes on otherwise.
        """
        config = self.config[self.subcommand]
        stay_offline_without_account(config.trainer.logger)
        training = self.subcommand == "fit"
        if training:
            keep_lists(config.data)
        config.data.classes = config.model.segmenter.classes = inlined(config.data.classes)
        if config.weights_only is False:
            raise ValueError("--weights_only false would let a checkpoint run code, which none needs; leave it out")
        refuse_flags(config.trainer)
        folder = config.trainer.default_root_dir
        config.ckpt_path = None if self.given.model else find_checkpoint(folder, config.ckpt_path, training)
        path = Path(config.ckpt_path or "")
        begins = training and FIRST_STEP not in str(config.trainer.callbacks)  # doctor's trial has a folder of its own
        if path.is_file():  # it may also be a keyword of Lightning
            checkpoint = read_checkpoint(path, training)  # before anything is built or written
            if "base" in checkpoint and named(config.trainer.strategy).startswith("ModelParallel"):
                fault = f"{path} refers to backbone weights (--model.checkpoint_base reference), which FSDP cannot add"
                raise ValueError(f"{fault}: set --trainer.strategy auto, or ddp")
            averages = config.model.ema or "Averag" in str(config.trainer.callbacks)
            if training and "current_model_state" in checkpoint and not averages:
                fault = f"{path} holds an average of the weights, with the optimizer's state of others"
                raise ValueError(f"{fault}: set --model.ema as it was, or start from it with --weights")
            if begins:
                refuse_finished(path, checkpoint, config.trainer)
        if begins and config.weights and config.ckpt_path not in (None, "last"):
            refuse_both(config)
        if not training and any(word.partition("=")[0] == "--weights" for word in self.words):
            raise ValueError("--weights starts a training: give --ckpt_path, the checkpoint of a run")
        config.model.for_training = training
        if not training:
            # Callbacks print or write the results.
            config["return_predictions" if self.subcommand == "predict" else "verbose"] = False

    def instantiate_classes(self) -> None:
        """Build the objects; except to train, take all weights from the checkpoint and read nothing pretrained."""
        config, self.record = self.config[self.subcommand], self.resolved()
        if self.given.model:
            refuse_run(Path(config.trainer.default_root_dir), "--trainer.default_root_dir")
            default = self._subcommand_parsers["test"].get_defaults(skip_validation=True).model.segmenter
            config.model.segmenter, config.model.ppar.enabled = default, False  # small, and nothing is read for it
        if self.subcommand != "fit":
            segmenter, path = config.model.segmenter, Path(config.ckpt_path or "")
            segmenter.pretrained = False
            if path.is_file():
                known, config.model.text_width = stored(read_checkpoint(path), segmenter)
                config.model.segmenter = Namespace(**vars(segmenter) | known)
        super().instantiate_classes()
        if self.subcommand == "fit":
            padding = check_padding(self.model.segmenter.backbone, self.datamodule)
            for finding in (*check_rendered(config.model, self.datamodule.sources), *padding):
                rank_zero_warn(finding.message)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the callbacks and curves as CSV, and read checkpoints as tensors and plain values."""
        self.config_init[self.subcommand].weights_only = True
        config = self.config_init[self.subcommand].trainer
        if config.fast_dev_run:
            self.trial = TemporaryDirectory()  # so that a trial changes nothing in the run folder
            config.default_root_dir = self.trial.name
            self.config_init[self.subcommand].predictions.folder = None
        command, checkpoint = self.subcommand or "", self.config[self.subcommand].ckpt_path
        named = False if command == "predict" or config.fast_dev_run else config.logger
        resumed = command == "fit" and checkpoint not in (None, "last")  # which stays if there is no checkpoint
        kwargs["logger"] = run_loggers(named, config.default_root_dir, command, resumed)
        changes = self.changes(yaml.safe_load(self.record)) if command == "fit" else {}
        provenance = Provenance(self.record, checkpoint, changes)
        if command == "fit" and not resumed and (source := self.config["fit"].weights):
            provenance.weights = start_from(self.model, source, self.config["fit"].weights_part)
        if self.given.model:
            self.model.segmenter = ForeignSegmenter(self.given.model, self.datamodule.classes)
            provenance.model = {"name": self.given.model, "revision": revision(self.given.model)}
        own = run_callbacks(provenance, self.given.ci)
        self.trainer_defaults["callbacks"] = [*own, *display(config)]  # besides those that the config names
        return super().instantiate_trainer(**kwargs)

    def resolved(self) -> str:
        """Dump the config of the subcommand as YAML, without the checkpoint that the run continues from."""
        config = self.config.clone()
        config[self.subcommand].ckpt_path = None
        whole = yaml.safe_load(self.parser.dump(config, skip_none=False))
        return yaml.safe_dump(whole[self.subcommand], sort_keys=False, allow_unicode=True)

    def changes(self, resolved: dict[str, Any]) -> Overrides:
        """List what the command line changes in the config files that it names; nothing if it names none."""
        given = [file for file in self.config["fit"].config or () if file]  # None stands for YAML in its place
        if not given:
            return {}
        defaults = self._subcommand_parsers["fit"].get_defaults(skip_validation=True).as_dict()
        plain = json.loads(json.dumps(defaults, default=str))  # lists in place of tuples, as in a config
        configs = [current_config(yaml.safe_load(file.get_content()) or {}) for file in given]
        named = {word[2:].partition("=")[0] for word in self.words if word.startswith("--")}
        return overrides([plain, *configs], named, resolved)


class DoctorCLI(PPARCLI):
    """CLI of ``ppar doctor``: it parses the arguments of ``fit`` and examines them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of ``fit`` and of the examination."""
        super().add_arguments_to_parser(parser)
        parser.add_method_arguments(Trainer, "fit", skip=LightningCLI.subcommands()["fit"])
        helped = "Pairs of each split that are decoded, evenly spaced; a large number reads all of them."
        parser.add_argument("--samples", type=PositiveInt, default=8, help=helped)
        helped = "Folder of the pictures and the findings; by default `doctor` in the run folder."
        parser.add_argument("--output", type=str | None, default=None, help=helped)

    def before_instantiate_classes(self) -> None:
        """Examine the config, and leave before anything is built."""
        examine(self.config, self.first_step)

    def first_step(self) -> str | None:
        """Train up to the end of the first step, in a folder of its own and without any output.

        Returns:
            What the step took; None if no step is left.

        Raises:
            OSError, ValueError: `ppar fit` would fail.
        """
        given = self.config.clone()
        for option in ("config", "samples", "output"):
            given.pop(option)
        trainer = given.trainer
        refuse_flags(trainer)  # before the config is dumped, which a refused callback may not allow
        trainer.logger = trainer.logger is not False and None  # curves as CSV, in place of those of the config
        trainer.devices, trainer.num_nodes = trainer.devices[:1] if isinstance(trainer.devices, list) else 1, 1
        trainer.callbacks = [*listed(trainer.callbacks), Namespace(class_path=FIRST_STEP)]
        given.ckpt_path = find_checkpoint(trainer.default_root_dir, given.ckpt_path, training=True)
        run = Path(trainer.default_root_dir).absolute()
        disk = next(path for path in run.parents if path.is_dir())  # which is also that of the checkpoints
        with TemporaryDirectory(dir=disk) as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            config = Path(folder) / "config.yaml"
            config.write_text(self.parser.dump(given, skip_none=False))
            try:
                call(PPARCLI, ["fit", "--config", str(config), "--trainer.default_root_dir", f"{folder}/run"])
            except TrialDoneError as end:
                return str(end)
        return None


def run(words: Sequence[str], launched: bool) -> None:
    """Run a subcommand that trains, evaluates, predicts or examines.

    Args:
        words: Command-line arguments, which begin with the subcommand.
        launched: Whether they are the arguments of this process. If so, ``sys.argv`` is completed too, because DDP uses
            it to start the processes of further ranks.

    Raises:
        OSError, ValueError: The command cannot be carried out; the message names the fault and the remedy.
    """
    quieten()
    words = current_words(spelt_out(["--help" if word == "--help.all" else word for word in words]))
    if launched:
        sys.argv[1:] = words
    if words[0] == "doctor":
        DoctorCLI(args=words[1:], run=False)
    else:
        call(PPARCLI, words)


def call(cli: type[PPARCLI], words: Sequence[str]) -> None:
    """Run a subcommand of a CLI, and turn errors of Lightning that the user can mend into errors of one line.

    Raises:
        OSError, ValueError: The command cannot be carried out.
    """
    try:
        cli(args=words)
    except UnpicklingError as error:  # of a checkpoint that Lightning fetched from an address
        raise ValueError(f"--ckpt_path: {cause(error)}; give a checkpoint that `ppar fit` has written") from error
    except MisconfigurationException as error:
        raise ValueError(error) from error
    except RuntimeError as error:  # with which Lightning refuses options too
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if not frame.f_globals["__name__"].startswith("lightning.") or shortage(error):
            raise
        raise ValueError(f"{error}; PPAR_TRACEBACK=1 shows where it comes from") from error
