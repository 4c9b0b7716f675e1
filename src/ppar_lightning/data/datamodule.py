"""The data module: labelled sources to train on, and unseen domains to score."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from ppar_lightning.data.dataset import FolderDataset, OnBadSample, Sample, Skipped
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.epoch_order import DEFAULT_SAMPLING, EpochOrder, Sampling
from ppar_lightning.data.fingerprint import Fingerprint, fingerprint
from ppar_lightning.data.loading import Batch, Loader, ResumableLoader, collate, on_device, start_worker
from ppar_lightning.data.own_pictures import PictureDataset
from ppar_lightning.data.protocols import find_protocol, protocol_title, protocol_window
from ppar_lightning.data.roles import check_roles, shared_images
from ppar_lightning.data.sampling import AugmentedDataset, EvaluationSampler, TrainSampler
from ppar_lightning.data.split import Split
from ppar_lightning.data.statistics import UNREADABLE, Counts, class_statistics, refuse_unlabelled
from ppar_lightning.data.transforms import DEFAULT_AUGMENTATION, Augment, Augmentation
from ppar_lightning.images.classes import Classes, class_list
from ppar_lightning.images.tta import ONE_COPY, TTA
from ppar_lightning.images.window import Window

SYNTHIA_16 = class_list("synthia16")
"""The classes that SYNTHIA labels; the usual second average for models trained on it."""

SYNTHIA_13 = [name for name in SYNTHIA_16 if name not in ("wall", "fence", "pole")]
"""Those without wall, fence and pole, which some papers leave out."""


class DomainDataModule(LightningDataModule):
    """Training batches of the sources, and evaluation batches of one domain each.

    `fit` reads only the sources, unless `watch_unseen` is set; `test` reads the sources' evaluation splits and the
    unseen domains. Protocols define how domains are scored. Order and augmentation depend only on `seed`: two methods
    see the same crops, with any number of workers, and a resumed run continues with the next batch.

    Args:
        sources: Domains to train on, by name; several are concatenated.
        unseen: Domains that are never trained on, by name.
        protocol: Name of the protocol for every domain that does not name its own.
        window: Sliding window for protocol `full`; other protocols have their own.
        tta: Resized and mirrored copies of each image that are segmented in evaluation and prediction, and whose class
            probabilities are averaged. They are named beside the protocol wherever scores are shown.
        crop: Height and width of training crops, in pixels.
        batch_size: Number of training images per device in a batch, at least 1.
        eval_batch_size: Number of images per evaluation batch of rendered domains, at least 1. Images from folders,
            whose sizes may differ, are evaluated one by one.
        workers: Number of processes per loader that read images; 0 reads in the main process.
        augmentation: Augmentation of training images.
        seed: Seed of order and augmentation; the command line sets it to ``seed_everything``.
        watch_unseen: Also score the unseen domains during `fit`.
        sampling: How training images are chosen.
        on_bad_sample: What happens if a training sample cannot be read: `raise` ends the run; `skip` trains on another
            one in its place, leaves out files without a counterpart, and lists both. In an evaluation split, an image
            that cannot be read and a file without a counterpart always end the run.
        classes: Classes that labels are read and predictions are scored in: the name of a list of the package, a YAML
            file, or the list itself. Data sets with other classes are mapped to it by the names of classes and groups.
        predict_dir: Pictures that `predict` segments: one or several files, folders, globs or videos.
    """

    def __init__(
        self,
        sources: dict[str, Domain],
        unseen: dict[str, Domain] | None = None,
        protocol: str = "full",
        window: Window | None = None,
        tta: TTA = ONE_COPY,
        crop: tuple[int, int] = (512, 512),
        batch_size: int = 8,
        eval_batch_size: int = 1,
        workers: int = 4,
        augmentation: Augmentation = DEFAULT_AUGMENTATION,
        seed: int = 0,
        watch_unseen: bool = False,
        sampling: Sampling = DEFAULT_SAMPLING,
        on_bad_sample: OnBadSample = "raise",
        classes: Classes = "cityscapes19",
        predict_dir: str | list[str] | None = None,
    ) -> None:
        super().__init__()
        self.classes = class_list(classes)
        self.sources = sources
        self.unseen = unseen or {}
        self.protocol = protocol
        self.window = window
        self.tta = tta
        self.crop = (crop[0], crop[1])
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.seed = seed
        self.watch_unseen = watch_unseen
        self.sampling = sampling
        self.on_bad_sample = on_bad_sample
        self.predict_dir = [predict_dir] if isinstance(predict_dir, str) else predict_dir or []
        self.pictures: PictureDataset
        """The pictures that `predict` segments, after `setup("predict")`."""
        self.train_splits: dict[str, Split] = {}
        """Source -> its training split, after `setup("fit")`."""
        self.eval_splits: dict[str, Split] = {}
        """Domain -> its evaluation split, for the domains of the current stage."""
        self._order: EpochOrder
        self._unreadable: list[Skipped] = []
        least = {
            "crop": min(crop),
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "workers": workers + 1,
        }
        for option, value in least.items():
            if value < 1:
                raise ValueError(f"data.{option} is {getattr(self, option)}; give at least {int(option != 'workers')}")
        check_roles(sources, self.unseen)
        for chosen in self.protocols.values():
            find_protocol(chosen)
        if window is not None and "full" not in self.protocols.values():
            raise ValueError(f"protocol {protocol!r} has a window of its own; leave data.window out")

    @property
    def protocols(self) -> Mapping[str, str]:
        """Domain -> name of its protocol, for all domains."""
        return {name: domain.protocol or self.protocol for name, domain in (self.sources | self.unseen).items()}

    @property
    def protocol_titles(self) -> Mapping[str, str]:
        """Domain -> the label of its scores: the protocol, the window if it was chosen freely, and the copies."""
        return {name: protocol_title(used, self.window, self.tta) for name, used in self.protocols.items()}

    @property
    def means(self) -> Mapping[str, tuple[int, ...]]:
        """Name of a reported mean -> its train ids: `miou`, and with SYNTHIA as a source `miou_16` and `miou_13`."""
        means = {"miou": tuple(range(len(self.classes)))}
        sources = [split.whole for name, split in self.eval_splits.items() if name in self.sources]
        known = any([*each.scored_classes] == [*SYNTHIA_16] for each in sources)
        for names in (SYNTHIA_16, SYNTHIA_13) if known else ():
            found = tuple(k for k, name in enumerate(self.classes) if name in names)
            if len(found) == len(names) < len(self.classes):
                means[f"miou_{len(found)}"] = found
        return means

    def setup(self, stage: str) -> None:
        """Open the splits of a stage; those to evaluate only if the trainer evaluates.

        Raises:
            ValueError, FileNotFoundError: A domain cannot be opened; the message names it and the option to set.
        """
        if stage == "predict":
            if not self.predict_dir:
                raise ValueError("nothing to predict: give pictures with --data.predict_dir")
            self.pictures = PictureDataset(self.predict_dir)
            return
        unscored = stage == "fit" and self.trainer is not None and self.trainer.limit_val_batches == 0
        scored = () if unscored else self.sources | (self.unseen if stage == "test" or self.watch_unseen else {})
        self.eval_splits = {name: self._open(name, "eval") for name in scored}
        if stage == "fit":
            self.train_splits = {name: self._open(name, "train") for name in self.sources}
            self._unreadable = []
            counted = [*self.train_splits.values()] if self.sampling.class_share > 0 else []
            counts = [self._statistics(split) for split in counted]
            sizes = [len(split) for split in self.train_splits.values()]
            weights = [domain.weight for domain in self.sources.values() if domain.weight is not None]
            self._order = EpochOrder(
                sizes, self.seed, self.sampling, weights or None, np.concatenate(counts) if counts else None
            )
        trained = self.train_splits or self._trained()
        for name, line in shared_images(trained, self.eval_splits, self.unseen, stage == "fit").items():
            if name in self.unseen:
                raise ValueError(f"unseen domain {name!r}: {line}")
            rank_zero_warn(f"domain {name!r}: {line}")

    def train_dataloader(self) -> ResumableLoader:
        """Return a loader of shuffled, augmented batches of the sources, without an incomplete last batch."""
        augment = Augment(self.crop, self.augmentation, self.sampling.focus_pixels)
        dataset = AugmentedDataset(list(self.train_splits.values()), augment, self.seed)
        sampler = TrainSampler(self._order)
        refuse_small_share(len(sampler), self.batch_size)
        options = self._loading | {"drop_last": True, "persistent_workers": self.workers > 0}
        return ResumableLoader(dataset, batch_size=self.batch_size, sampler=sampler, **options)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return one loader per source, and with `watch_unseen` one per unseen domain."""
        return [self._eval_loader(split) for split in self.eval_splits.values()]

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return one loader per source, then one per unseen domain."""
        return self.val_dataloader()

    def predict_dataloader(self) -> list[DataLoader[Sample]]:
        """Return a loader of single pictures and one of frames; those that cannot be read are named and left out.

        One worker reads the frames: each further one would decode the whole videos again.
        """
        window = protocol_window(self.protocol, self.window)
        title = protocol_title(self.protocol, self.window, self.tta)
        stills = [each.frame is None for each in self.pictures.found]
        loaders = []
        for still, most in ((True, self.workers), (False, 1)):
            part = [index for index, found in enumerate(stills) if found == still]
            split = Split(self.pictures, part, window=window, protocol=title, tta=self.tta.copies, skip=True)
            loaders.append(self._eval_loader(split, num_workers=min(self.workers, most)))
        return [each for each in loaders if len(each)] or loaders[:1]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Apply the variations that the workers drew, and convert the types for the segmenter."""
        return on_device(batch)

    def skipped(self) -> list[Skipped]:
        """List the samples that are left out from the start: files without a counterpart, labels without statistics."""
        wholes = [split.whole for split in self.train_splits.values()]
        return [Skipped(each.domain, "", line) for each in wholes for line in each.unpaired] + self._unreadable

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return ``{domain}/{train,eval}`` -> fingerprint, for the splits of the current stage."""
        parts = {"train": self.train_splits, "eval": self.eval_splits}
        return {f"{name}/{part}": fingerprint(each) for part, found in parts.items() for name, each in found.items()}

    def _statistics(self, split: Split) -> Counts:
        counts = class_statistics(split, self.workers)
        for index in np.flatnonzero(counts[:, 0] == UNREADABLE).tolist():  # which sampling by class may never draw
            late = Skipped(split.domain, split.name(index), "its label could not be read when classes were counted")
            self._unreadable += split[index]["error"] or [late]  # raises the error unless the split skips
        return counts

    def _eval_loader(self, split: Split, **options: Any) -> DataLoader[Sample]:
        size = 1 if isinstance(split.whole, FolderDataset | PictureDataset) else self.eval_batch_size
        return Loader(split, batch_size=size, sampler=EvaluationSampler(split), **self._loading | options)

    @property
    def _loading(self) -> dict[str, Any]:
        """Arguments that all loaders have in common."""
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": start_worker,
            "generator": torch.Generator(),  # otherwise each epoch would draw from the global generator
        }

    def _open(self, name: str, role: Literal["train", "eval"]) -> Split:
        policy = self.on_bad_sample if role == "train" else "raise"  # a protocol scores all images of a split
        domain = (self.sources | self.unseen)[name]
        try:
            split = domain.open(name, role, self.protocols[name], policy, self.window, self.tta, self.classes)
            if role == "train":
                refuse_unlabelled(split)
        except (ValueError, OSError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            group = "sources" if name in self.sources else "unseen"
            raise kind(f"domain {name!r}: {error} (settings: --data.{group}.{name})") from None
        split.skip = policy == "skip"
        for remark in split.remarks:
            rank_zero_warn(f"domain {name!r}: {remark}")
        if len(split) < len(whole := split.whole):
            rank_zero_info(f"domain {name!r}: {len(split)} of the {len(whole)} images of split {whole.split!r}")
        return split

    def _trained(self) -> Mapping[str, Split]:
        """Open the training splits of the sources, as far as this machine has their files."""
        found = {}
        for name, domain in self.sources.items():
            with suppress(ValueError, OSError):
                found[name] = domain.open(name, "train", self.protocols[name], "skip", classes=self.classes)
        return found


def refuse_small_share(images: int, batch_size: int) -> None:
    """Refuse a device's share of the training images that is smaller than a batch.

    Args:
        images: Number of training images per device.
        batch_size: Number of images in a batch.

    Raises:
        ValueError: The share is smaller than a batch.
    """
    if images < batch_size:
        fault = f"{images} training images per device are fewer than a batch of {batch_size}"
        raise ValueError(f"{fault}; lower --data.batch_size")
