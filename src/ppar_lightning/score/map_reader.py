"""Label maps in the place of predictions."""

import re
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ppar_lightning.callbacks.noise import quieten
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.results import TestResults
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.loading import Batch

MAPS: Any = dict.fromkeys(("images", "labels"), "*.png")
"""Options of a folder of label maps without images."""

ENDS = re.compile("(?=[^0-9A-Za-z/][^/]*$)|$")
"""Where an ending of a file's name may begin."""


def score(given: Namespace) -> None:
    """Score maps, and write the scores as a test does.

    Args:
        given: Arguments of the subcommand.
    """
    quieten()
    plain = given.dataset == "folder"
    domain = Domain(given.dataset, given.labels, eval_split=given.split, options=MAPS if plain else {})
    domains = {given.name or given.dataset: domain}
    data = DomainDataModule(domains, protocol=given.protocol, workers=0, classes=given.classes)
    data.sources, data.unseen = {}, domains
    scores, provenance = DomainScores(given.ci), Provenance("")
    provenance.model = {"name": str(given.predictions)}
    quiet: Any = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    callbacks = [scores, TestResults(scores, provenance)]
    trainer = L.Trainer(accelerator="cpu", devices=1, default_root_dir=given.output, callbacks=callbacks, **quiet)
    trainer.test(MapReader(given.predictions, data), datamodule=data, verbose=False)


class MapReader(L.LightningModule):
    """What "predicts" by reading maps.

    Attributes:
        scored_as: Train ids of the maps.
    """

    def __init__(self, folder: Path, data: DomainDataModule) -> None:
        """Open the folder.

        Args:
            folder: Folder of the maps.
            data: The labels.
        """
        super().__init__()
        self.data, self.maps = data, Folder(folder, "", "predictions", **MAPS, target=data.classes)
        self.scored_as = torch.arange(len(data.classes))
        self.selected_on: list[str] = []

    def on_test_start(self) -> None:
        """Find the map of each sample."""
        (split,) = self.data.eval_splits.values()
        for each in (self.maps, split.whole):
            if isinstance(each, Folder):
                each.id_remedy = each.colour_remedy = "write train ids of --classes in its place, and 255 for no class"
        self.places = matched([split.name(index) for index in range(len(split))], self.maps.names)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the map of a sample, (1, H, W); the number of classes stands for none of them.

        Raises:
            ValueError: It has not the size of the label, as the protocol resizes it.
        """
        (name,), (height, width) = batch["name"], batch["label"].shape[1:]
        found = torch.from_numpy(self.maps.read_label(self.places[name]))
        if found.shape != (height, width):
            fault = f"{self.maps.pairs[self.places[name]][1]} is {found.shape[1]}x{found.shape[0]}"
            wanted = f"the label of {name} is {width}x{height} in protocol {batch['protocol']}"
            raise ValueError(f"{fault}, but {wanted}: write maps of that size, resized to the nearest pixel")
        return found[None].long().clamp(max=len(self.scored_as))


def matched(samples: Sequence[str], maps: Sequence[str]) -> dict[str, int]:
    """Find the map of each sample by its name, which may have an ending: ``a/b_pred``, or ``b_pred`` if unique.

    Args:
        samples: Names of the samples.
        maps: Names of the maps.

    Returns:
        Sample -> index of its map.

    Raises:
        ValueError: A sample has no map, a map belongs to no sample, or two belong to one.
    """
    times = Counter(name.rpartition("/")[2] for name in samples)
    known = {short: name for name in samples if times[short := name.rpartition("/")[2]] == 1}
    known |= {name: name for name in samples}
    found: dict[str, list[int]] = {}
    for index, name in enumerate(maps):
        texts = name, name.rpartition("/")[2]
        starts = (text[: end.start()] for text in texts for end in [*ENDS.finditer(text)][::-1])
        found.setdefault(next((known[start] for start in starts if start in known), ""), []).append(index)
    missing = [f"{name} has no map" for name in samples if name not in found]
    left = [f"{maps[index]} is a map of no other sample" for name, own in found.items() for index in own[name != "" :]]
    if faults := missing + left:
        names = "name each map after its sample, NAME.png or NAME_pred.png, and move others away"
        raise ValueError(f"{faults[0]} ({len(missing)} samples and {len(left)} maps without a counterpart): {names}")
    return {name: own[0] for name, own in found.items()}
