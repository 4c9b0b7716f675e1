"""The data of a run: labelled sources to train on, unseen domains to be scored on."""

from collections.abc import Mapping
from typing import Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from ppar_lightning.data.dataset import OnBadSample, Sample
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.loading import ResumableLoader, collate, use_one_thread
from ppar_lightning.data.sampling import AugmentedDataset, EvaluationSampler, TrainSampler
from ppar_lightning.data.transforms import DEFAULT_AUGMENTATION, Augment, Augmentation


class DomainDataModule(LightningDataModule):
    """Training batches of the sources, and evaluation batches of one domain each.

    `fit` reads the sources alone, unless `watch_unseen`; `test` reads the sources' evaluation splits and the unseen
    domains. Images are evaluated at their own size. Order and augmentation depend on `seed` alone: two methods see the
    same crops, for any number of workers, and a resumed run goes on with the next batch.

    Args:
        sources: domains to train on, by name; several are put together.
        unseen: domains that are never trained on, by name.
        crop: height and width of training crops.
        batch_size: training images per device and step.
        eval_batch_size: images per evaluation batch; above 1 a domain's images must have one size.
        workers: processes that read, per loader; 0 reads in the main process.
        augmentation: how training images are varied.
        seed: seed of order and augmentation.
        watch_unseen: score the unseen domains during `fit` too.
        on_bad_sample: what files without a counterpart do: `raise` ends the run, `skip` leaves them out.
    """

    def __init__(
        self,
        sources: dict[str, Domain],
        unseen: dict[str, Domain] | None = None,
        crop: tuple[int, int] = (512, 512),
        batch_size: int = 8,
        eval_batch_size: int = 1,
        workers: int = 4,
        augmentation: Augmentation = DEFAULT_AUGMENTATION,
        seed: int = 0,
        watch_unseen: bool = False,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        super().__init__()
        self.sources = sources
        self.unseen = unseen or {}
        self.crop = (crop[0], crop[1])
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.seed = seed
        self.watch_unseen = watch_unseen
        self.on_bad_sample = on_bad_sample
        self._eval_sets: dict[str, Dataset[Sample]] = {}
        self._train_sets: list[Dataset[Sample]] = []
        self._scored_classes: dict[str, tuple[int, ...]] = {}
        both = set(sources) & set(self.unseen)
        if not sources or both:
            fault = f"{', '.join(sorted(both))} is a source and unseen" if both else "there is no source"
            raise ValueError(f"{fault}; give each domain one name under data.sources or data.unseen")

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the domains that are trained on."""
        return tuple(self.sources)

    @property
    def unseen_names(self) -> tuple[str, ...]:
        """Names of the domains that are never trained on."""
        return tuple(self.unseen)

    @property
    def evaluated_names(self) -> tuple[str, ...]:
        """Names of the domains that the stage that was set up scores."""
        return tuple(self._eval_sets)

    @property
    def scored_classes(self) -> Mapping[str, tuple[int, ...]]:
        """Domain -> train ids its mIoU is taken over, for the domains of the stage that was set up."""
        return self._scored_classes

    def setup(self, stage: str) -> None:
        """Open the splits of a stage.

        Raises:
            ValueError, FileNotFoundError: naming the domain, what is wrong with it and the option to set.
        """
        self._eval_sets = {name: self._open("sources", name, "eval") for name in self.sources}
        if stage == "fit":
            self._train_sets = [self._open("sources", name, "train") for name in self.sources]
        if stage == "test" or self.watch_unseen:
            self._eval_sets |= {name: self._open("unseen", name, "eval") for name in self.unseen}

    def train_dataloader(self) -> ResumableLoader:
        """Augmented batches of the sources, shuffled; an incomplete last one is left out."""
        augment = Augment(self.crop, self.augmentation)
        dataset = AugmentedDataset(self._train_sets, augment, self.seed)
        sampler = TrainSampler(dataset, self.seed)
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"{len(sampler)} training images per device are less than a batch of {self.batch_size}; "
                "lower --data.batch_size"
            )
        return ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),  # or else each epoch would take a number from the global one
            persistent_workers=self.workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader a source, and one an unseen domain if they are watched."""
        return [self._eval_loader(dataset) for dataset in self._eval_sets.values()]

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader a source, then one an unseen domain."""
        return self.val_dataloader()

    def _eval_loader(self, dataset: Dataset[Sample]) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            batch_size=self.eval_batch_size,
            sampler=EvaluationSampler(dataset),
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),
        )

    def _open(self, group: Literal["sources", "unseen"], name: str, split: str) -> Dataset[Sample]:
        domain = getattr(self, group)[name]
        try:
            dataset, self._scored_classes[name] = domain.open(name, split, self.on_bad_sample)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"domain {name!r}: {error} (settings: --data.{group}.{name})") from None
        return dataset
