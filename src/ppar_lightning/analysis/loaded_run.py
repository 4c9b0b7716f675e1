"""A run folder as objects: the segmenter, PPAR's objective and the data, without a trainer.

run = load_run("runs/demo")
label = run.predict(batch)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.loading import Batch, collate, on_device
from ppar_lightning.data.split import Split
from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.method.objective import PPAR
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.renamed import current_config
from ppar_lightning.runs.run_folder import read_config
from ppar_lightning.runs.stored import stored


@dataclass(frozen=True)
class LoadedRun:
    """A trained run in eval mode; without gradients; it stays on the CPU unless its module is moved."""

    folder: Path
    module: PPARModule
    data: DomainDataModule
    """Set up for ``test``: the sources' evaluation splits and the unseen domains."""
    step: int
    """Number of optimiser steps before the checkpoint."""

    @property
    def objective(self) -> PPAR:
        """Prototypes, embedding head and margin statistics.

        Raises:
            ValueError: The run was trained without PPAR.
        """
        if self.module.objective is None:
            raise ValueError(f"{self.folder} was trained without PPAR (model.ppar.enabled: false): name another run")
        return self.module.objective

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the evaluated domains, the sources first."""
        return tuple(self.data.eval_splits)

    def batches(self, domain: str, images: int | None = None) -> Iterator[Batch]:
        """Yield evaluation batches of a domain on the module's device, until they hold at least ``images`` images.

        Args:
            domain: Name of the domain.
            images: Number of images; None yields the whole split.

        Raises:
            ValueError: The run has no such domain.
        """
        self.dataset(domain)
        number = None if images is None else -(-images // self.data.eval_batch_size)
        loader = self.data.test_dataloader()[self.domains.index(domain)]
        return map(self.to_device, islice(loader, number))

    def read(self, domain: str, index: int) -> Batch:
        """Read an evaluation image of a domain as a batch on the module's device."""
        return self.to_device(collate([self.data.eval_splits[domain][index]]))

    def dataset(self, domain: str) -> Split:
        """Return the evaluation split of a domain as training reads images: without the resizing of a protocol.

        Raises:
            ValueError: The run has no such domain.
        """
        if domain not in self.domains:
            raise ValueError(f"{self.folder} has no domain {domain!r}: choose one of {', '.join(self.domains)}")
        split = self.data.eval_splits[domain]
        return Split(split.whole, split.indices, classes=split.classes)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the module's device and convert its types for the model."""
        return on_device(move_data_to_device(batch, self.module.device))

    def predict(self, batch: Batch) -> Tensor:
        """Segment a batch of one domain as ``ppar test`` does: (B, H, W) train ids at its labels' size."""
        return self.module.segment(batch)


def load_run(folder: str | Path, checkpoint: str | Path = "last.ckpt") -> LoadedRun:
    """Load a run from its folder.

    The config says what to build. Neither CLIP nor text embeddings are read, and no backbone unless the checkpoint
    refers to its frozen weights (``checkpoint_base: reference``). The objective has no image tower, so it cannot train.

    Args:
        folder: Run folder, with ``config.yaml`` and ``checkpoints/``.
        checkpoint: Name in ``checkpoints/``, or a path.

    Raises:
        FileNotFoundError: Config or checkpoint is missing.
        ValueError: Config or checkpoint is damaged, they do not belong together, the config has a key that this version
            does not know, or the checkpoint would run code.
    """
    folder = Path(folder)
    config = current_config(read_config(folder))
    path = folder / "checkpoints" / checkpoint  # an absolute path replaces the folder before it
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name a file in checkpoints/, where `ppar fit` writes last.ckpt")
    state = read_checkpoint(path)
    module, data = _build(config, state)
    module.on_load_checkpoint(state)
    module.load_state_dict(state["state_dict"])
    data.setup("test")
    return LoadedRun(folder, module.eval().requires_grad_(False), data, state["global_step"])


def checkpoints(folder: str | Path) -> list[Path]:
    """List checkpoints kept during training (``--checkpoint.every_n_train_steps``) by step, without ``last.ckpt``."""
    found = (Path(folder) / "checkpoints").glob("*step=*.ckpt")
    return sorted(found, key=lambda path: int(re.findall(r"step=(\d+)", path.name)[0]))


def _build(config: dict[str, Any], checkpoint: dict[str, Any]) -> tuple[PPARModule, DomainDataModule]:
    """Build module and data module as the command line does; both take their seed from ``seed_everything``."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PPARModule, "model")
    parser.add_class_arguments(DomainDataModule, "data")
    segmenter, seed = config["model"]["segmenter"], {"seed": config["seed_everything"]}
    network, width = stored(checkpoint, segmenter)
    model = {"segmenter": {**segmenter, **network}, "text_width": width}
    given = {"model": config["model"] | model | seed, "data": config["data"] | seed | {"workers": 0}}
    built = parser.instantiate_classes(parser.parse_object(given))
    return built.model, built.data
