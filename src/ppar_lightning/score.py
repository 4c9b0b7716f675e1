"""The subcommand ``ppar score``: maps of any program, scored by a protocol.

ppar score predictions/ data/cityscapes --dataset cityscapes --protocol rein --ci
"""

import re
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
from ppar_lightning.console import PlainParser, add_ci
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.datasets.maps import Maps
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.loading import Batch
from ppar_lightning.runs.run_folder import refuse_run

ENDS = re.compile("(?=[^0-9A-Za-z/][^/]*$)|$")
"""Where an ending of a file's name may begin."""


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments.

    Raises:
        OSError, ValueError: The maps cannot be scored; the message names the fault and the remedy.
    """
    parser = add_ci(PlainParser("ppar score", description="Score maps of train ids, PNG, that any program has made."))
    parser.add_argument("predictions", type=Path, help="folder of the maps; 255 is no class")
    parser.add_argument("labels", type=Path, help="folder of label maps with train ids, or root of --dataset")
    parser.add_argument("--dataset", default="maps", help="a data set of ppar, such as cityscapes")
    parser.add_argument("--split", help="its split (default: the one that it is scored on)")
    parser.add_argument("--protocol", default="full", help="name of the protocol (default: full)")
    parser.add_argument("--classes", default="cityscapes19", help="a list of the package, or a YAML file")
    parser.add_argument("--name", help="name of the domain (default: that of the data set)")
    parser.add_argument("--output", type=Path, help="folder of the scores (default: runs/NAME_OF_PREDICTIONS)")
    given = parser.parse_args(words)
    output = given.output or Path("runs") / given.predictions.resolve().name
    refuse_run(output, "--output")
    quieten()
    domain = Domain(given.dataset, str(given.labels), eval_split=given.split)
    data = DomainDataModule(
        {given.name or given.dataset: domain}, protocol=given.protocol, workers=0, classes=given.classes
    )
    data.sources, data.unseen = {}, data.sources
    scores, provenance = DomainScores(given.ci), Provenance("")
    provenance.model = {"name": str(given.predictions), "revision": ""}
    quiet: Any = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    callbacks = [scores, TestResults(scores, provenance)]
    trainer = L.Trainer(accelerator="cpu", devices=1, default_root_dir=output, callbacks=callbacks, **quiet)
    trainer.test(MapReader(given.predictions, data), datamodule=data, verbose=False)


class MapReader(L.LightningModule):
    """What "predicts" by reading maps.

    Attributes:
        scored_as: Train ids of the maps, all of which are scored.
    """

    def __init__(self, folder: Path, data: DomainDataModule) -> None:
        """Store where the maps are.

        Args:
            folder: Folder of the maps.
            data: The labels.
        """
        super().__init__()
        self.data, self.scored_as = data, torch.arange(len(data.classes))
        self.selected_on: list[str] = []
        self.maps = Maps(folder, "", "predictions", data.classes)
        self.places: dict[str, int] = {}

    def on_test_start(self) -> None:
        """Find the map of each sample."""
        (split,) = self.data.eval_splits.values()
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
            remedy = f"write maps of the size of the labels, which protocol {batch['protocol']} defines"
            raise ValueError(f"{fault}, but the label of {name} is {width}x{height}: {remedy}")
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
    last = [name.rpartition("/")[2] for name in samples]
    times = Counter(last)
    known = {short: name for short, name in zip(last, samples, strict=True) if times[short] == 1}
    known |= {name: name for name in samples}
    found: dict[str, int] = {}
    left = []
    for index, name in enumerate(maps):
        starts = (
            text[: end.start()] for text in (name, name.rpartition("/")[2]) for end in [*ENDS.finditer(text)][::-1]
        )
        sample = next((known[start] for start in starts if start in known), "")
        if sample in found or not sample:
            left.append(name)
        found[sample] = index
    missing = [name for name in samples if name not in found]
    if missing or left:
        kinds = {"samples have no map": missing, "maps belong to no sample, or to one that has a map": left}
        fault = "; ".join(f"{len(names)} {what}, such as {names[0]}" for what, names in kinds.items() if names)
        raise ValueError(f"{fault}: name each map after its sample, NAME.png or NAME_pred.png, and move others away")
    return found
