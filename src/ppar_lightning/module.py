"""The LightningModule: training and evaluation steps, optimiser and schedule for a segmenter with PPAR's objective."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from ppar_lightning.averaging import EMA, TrainedAverage
from ppar_lightning.baselines.whitening import InstanceSelectiveWhitening, ISWOptions
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.loading import Batch, Prediction
from ppar_lightning.data.scored_classes import scored_as
from ppar_lightning.distributed import all_reduce_sum, shard, sum_together, world_size
from ppar_lightning.images.classes import class_list
from ppar_lightning.method.objective import PPAR, Losses, build_objective
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.step_plan import Continuation, StepPlan
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.optimizer import build_optimizer, withhold
from ppar_lightning.rates import PlannedRates, is_logging_step, planned_steps
from ppar_lightning.runs.stored import described
from ppar_lightning.segmenter.adapter import AdapterOptions
from ppar_lightning.segmenter.inference import infer
from ppar_lightning.segmenter.inputs import as_float
from ppar_lightning.segmenter.reference import complete, frozen, named_base, shorten
from ppar_lightning.segmenter.segmenter import Segmenter
from ppar_lightning.segmenter.sliding import predict


class PPARModule(L.LightningModule):
    """A segmenter with PPAR's training objective; ``ppar.enabled: false`` trains the plain baseline.

    It works with the data module and the callbacks of this package, and with a plain ``Trainer`` and loaders of
    dictionaries.

    module = PPARModule(Segmenter("resnet_small", "fpn"))
    Trainer(max_steps=100).fit(module, train_loader, val_loader)

    A batch holds ``image``, (B, 3, H, W) RGB, uint8 or float in [0, 1], and ``label``, (B, H, W) train ids of any
    integer type, 255 where a pixel has no label; ``predict`` needs no label. A batch to evaluate may hold ``window``,
    the size and stride in pixels of a sliding window, and ``tta``, the copies whose probabilities are averaged. Others,
    such as ``domain``, are for callbacks, of which :class:`~ppar_lightning.callbacks.scores.DomainScores` scores the
    train ids that evaluation steps return.
    """

    scored_as: Tensor | None
    """(K,) train id in the data module's classes of each class of the segmenter; None if they are the same."""
    selected_on: list[str]
    """Metrics of unseen domains that the loaded checkpoint was selected by."""
    rates: PlannedRates | None
    loss_terms: dict[str, Tensor]
    """Addends of the last training loss on this rank, by name, without gradient."""
    shared: dict[str, Tensor]
    """Float vectors on the device that callbacks put here in ``on_before_optimizer_step``, to be summed over ranks."""
    summed: dict[str, Tensor]
    """The sums of the last optimiser step, on the device."""
    good: Tensor | bool
    """Whether the last optimiser step was finite; on the device, if the host need not know."""
    before_saving: Callable[[], None] | None
    """Called before a checkpoint is written, on every rank; it may raise."""

    def __init__(
        self,
        segmenter: Segmenter,
        ppar: PPAROptions = PPAROptions(),  # noqa: B008
        isw: ISWOptions = ISWOptions(),  # noqa: B008
        optimizer: OptimizerCallable = torch.optim.AdamW,
        backbone_lr: float = 0.1,
        adapter_lr: float | None = None,
        layer_decay: float = 1.0,
        weight_decay_end: float | None = None,
        ema: EMA | None = None,
        warmup_steps: int = 0,
        power: float = 0.9,
        continuation: Continuation = "extend",
        seed: int = 0,
        compile: str | None = None,
        checkpoint_base: Literal["whole", "reference"] = "whole",
        for_training: bool = True,
        text_width: int | None = None,
    ) -> None:
        """Wrap a segmenter, and build the objective and the whitening around it.

        Args:
            segmenter: The network to train.
            ppar: Options of the method.
            isw: Options of the whitening, a baseline that can be trained alone or with PPAR.
            optimizer: Optimiser of all parameters; its learning rate applies to everything except the backbone.
            backbone_lr: The backbone's learning rate as a multiple of the optimiser's.
            adapter_lr: The same for adapters in the backbone; None: as ``backbone_lr``.
            layer_decay: Factor from the rate of a layer of the backbone to that of the layer before, in (0, 1].
            weight_decay_end: Weight decay of the last step, reached along half a cosine; None keeps the optimiser's.
            ema: Moving average of the trained weights, which is validated, stored and exported; None: the weights.
            warmup_steps: Number of optimiser steps of linear warm-up; 0 starts at the full rate.
            power: Exponent of the polynomial decay (1 - step / total steps)^power to 0 at the last step.
            continuation: What the schedules do if a run is continued with another number of steps. ``extend``: as if
                planned so from the start. ``restart``: the rates begin a new cycle, and PPAR's u goes on.
            seed: Seed of the dropout and the objective's initial weights; the command line takes ``seed_everything``.
            compile: Backend of ``torch.compile`` for backbone, head and PPAR's losses in training, e.g. ``inductor``.
            checkpoint_base: ``reference`` leaves the backbone's frozen weights out of checkpoints, but for a hash.
            for_training: Build objective and whitening, also without ``ppar.ensemble``; the command line sets it.
            text_width: Width of a checkpoint's prototypes, which are then built without CLIP; the command line sets it.
        """
        super().__init__()
        self.segmenter, self.options, self.optimizer = segmenter, ppar, optimizer
        self.group_rates = (backbone_lr, adapter_lr, layer_decay)
        self.schedule = (warmup_steps, power, continuation, weight_decay_end)
        self.seed, self.compile_backend, self.ema, self.checkpoint_base = seed, compile, ema, checkpoint_base
        self.objective: PPAR | None = None
        self.whitening: InstanceSelectiveWhitening | None = None
        if ppar.enabled and (for_training or ppar.ensemble > 0):
            self.objective = build_objective(ppar, segmenter, seed, text_width)
        if isw.enabled and for_training:
            self.whitening = InstanceSelectiveWhitening(isw, segmenter.early_channels)
        self.register_buffer("scored_as", None, persistent=False)
        self.base, self.selected_on, self.rates, self.before_saving, self.good = "", [], None, None, True
        self.loss_terms, self.shared, self.summed = {}, {}, {}

    def setup(self, stage: str) -> None:
        """Compile backbone, head and PPAR's losses for training, in place, so that no parameter name changes.

        For an evaluation on CUDA in 16 bits, the weights of convolutions are laid out channels last.

        Raises:
            ValueError: The segmenter's classes do not fit the data's, no step is trained, or no base can be named.
        """
        trainer, strategy = self.trainer, self.trainer.strategy
        halved = strategy.root_device.type == "cuda" and "16" in str(trainer.precision)
        # Training is slower so, and ModelParallelStrategy shards contiguous weights.
        if halved and stage != "fit" and not isinstance(strategy, ModelParallelStrategy):
            convert_conv2d_weight_memory_format(self.segmenter, torch.channels_last)
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, DomainDataModule) and stage != "predict":
            self.scored_as = scored_as(self.segmenter.classes, data.classes, stage)
        if stage == "fit" and 0 in (trainer.max_steps, trainer.max_epochs, trainer.limit_train_batches):
            options = "--trainer.max_steps, --trainer.max_epochs and --trainer.limit_train_batches"
            raise ValueError(f"the training has no steps: set {options} to more than 0, or use `ppar validate`")
        if self.checkpoint_base == "reference" and stage == "fit":
            self.base = named_base(self, self.segmenter.referable and not isinstance(strategy, ModelParallelStrategy))
        if self.compile_backend is not None and stage == "fit":
            for part in filter(None, (self.segmenter.backbone, self.segmenter.head, self.objective)):
                part.compile(backend=self.compile_backend)

    def configure_model(self) -> None:
        """Shard the trained parts over the ranks if the strategy is Lightning's ``ModelParallelStrategy`` (FSDP)."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            objective = [] if self.objective is None else self.objective.children()
            for part in (*self.segmenter.children(), *objective):  # `shard` needs parts that are called as modules
                shard(part, strategy.device_mesh["data_parallel"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the description of the segmenter, so that it can be rebuilt; leave out what it is to refer to."""
        if self.before_saving is not None:
            self.before_saving()
        checkpoint["segmenter"] = self.segmenter.description
        if self.base:
            shorten(checkpoint, frozen(self), self.base)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the weights that a checkpoint refers to; drop those of training if it is over, and the time used up.

        Raises:
            ValueError: The checkpoint has other classes or adapters, or other weights of the backbone.
        """
        known = described(checkpoint)
        classes = class_list(known.get("classes", "cityscapes19"))
        if classes.names != self.segmenter.classes.names:
            fault = f"the checkpoint was trained on {len(classes)} classes ({', '.join(classes[:3])}, ...)"
            raise ValueError(f"{fault}, not on those of data.classes: give its list, or start from it with --weights")
        self.segmenter.adapter.refuse_other(AdapterOptions(**known.get("adapter", {})))
        checkpoint.get("callbacks", {}).pop("Timer", None)  # each session has --trainer.max_time of its own
        if self.base or "base" in checkpoint:
            complete(checkpoint, frozen(self))
        absent = tuple(f"{name}." for name in ("objective", "whitening") if getattr(self, name) is None)
        self.selected_on = checkpoint.get("target_selection", [])
        state = checkpoint.get("state_dict", {})  # absent under ModelParallelStrategy, which has loaded it already
        checkpoint["state_dict"] = {key: state[key] for key in state if not key.startswith(absent)}

    @property
    def progress(self) -> float:
        """u = step / total steps, in [0, 1]; a restart changes it, see ``continuation``."""
        # There are no rates if a subclass has another optimiser.
        plan = StepPlan(planned_steps(self.trainer)) if self.rates is None else self.rates.plan
        return plan.progress(self.trainer.global_step)

    def forward(self, image: Tensor) -> Tensor:
        """Segment (B, 3, H, W) float RGB in [0, 1] into (B, K, H, W) logits."""
        if self.objective is not None and self.options.ensemble > 0:
            return self.objective.ensemble(self.segmenter.outputs(image))
        return self.segmenter(image)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the dropout by (seed, epoch, batch, rank), so that a resumed run continues exactly."""
        seed = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of a source batch and log its terms."""
        image, label = as_float(batch["image"]), batch["label"].long()
        output = self.segmenter.outputs(image)
        if self.objective is None:
            terms = supervised_terms(output, label)
            losses = Losses(torch.stack(list(terms.values())).sum(), terms, {})
        else:
            self.objective.step = self.trainer.global_step
            losses = self.objective(output, image, label, self.progress, is_logging_step(self.trainer))
        if self.whitening is not None:
            seed = (self.seed, self.trainer.global_step)
            isw = self.whitening(output.early, image, self.segmenter.early, self.progress, seed)
            losses = losses._replace(total=losses.total + isw, terms=losses.terms | {"isw": isw})
        self.loss_terms = {name: term.detach() for name, term in losses.terms.items()}
        loss = self._log_losses(losses) if is_logging_step(self.trainer) else losses.total.detach()
        self.log("train/loss", loss)  # at each step, as a callback may monitor it; it stays on the device
        return losses.total

    def _log_losses(self, losses: Losses) -> Tensor:
        """Log the mean over ranks of all terms: one reduction and one read of the device per logging step.

        Returns:
            The mean of the total, on the device.
        """
        values = {f"loss/{name}": value for name, value in losses.terms.items()} | losses.diagnostics
        vector = torch.stack([losses.total, *values.values()]).detach().float()
        means = all_reduce_sum(vector) / world_size()
        total, *others = means.cpu().unbind()
        self.log("loss", total, prog_bar=True, logger=False)  # the bar would read the device at each step
        self.log_dict({f"train/{name}": value for name, value in zip(values, others, strict=True)})
        return means[0]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Sum over ranks what callbacks share, and update the banks, also with gradient accumulation.

        If they share "bad", a number that is not 0 if a loss or gradient is not finite, then weights, banks and the
        optimiser's state stay as they are.
        """
        objective = self.objective
        parts = self.shared | ({} if objective is None else {"pending": objective.pending})
        self.summed, self.shared = sum_together(parts), {}
        bad = self.summed.get("bad")
        good = torch.ones((), dtype=torch.bool, device=self.device) if bad is None else bad[0] == 0
        if objective is not None:
            objective.update(self.summed["pending"], good)
        self.good = good if bad is None else withhold(optimizer, good)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint's weights.

        Raises:
            ValueError: They do not fit: they belong to other classes, another network or another text.
        """
        if self.objective is not None and "objective.prototypes.otp" in state_dict:
            self.objective.prototypes.refuse_other_text(state_dict["objective.prototypes.otp"])
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            fault = " ".join(str(error).split())[:200]
            remedy = "give the config it was trained with"
            raise ValueError(f"the checkpoint does not fit the config ({fault}): {remedy}") from error

    def logits(self, batch: Batch) -> Tensor:
        """Segment a batch through the window of its protocol, or whole, and over its copies: (B, K, H, W) logits."""
        copies, per_pixel = batch.get("tta", ()), self.segmenter.per_pixel
        return infer(self, as_float(batch["image"]), batch.get("window"), copies, per_pixel)

    def segment(self, batch: Batch) -> Tensor:
        """Segment a batch at the size of its labels: (B, H, W) train ids of the data module's classes.

        Where the segmenter predicts a class that these lack, the id is their number.
        """
        label = predict(self.logits(batch), (batch["label"].shape[-2], batch["label"].shape[-1]))
        return label if self.scored_as is None else self.scored_as[label]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the predicted train ids, (B, H, W); callbacks score and draw them."""
        return self.segment(batch)

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        """Segment the user's pictures at their own size."""
        confidence, label = self.logits(batch).float().softmax(dim=1).max(dim=1)
        return Prediction(label, confidence)

    def configure_callbacks(self) -> list[L.Callback]:
        """Average the trained weights if ``ema`` is set."""
        return [] if self.ema is None else [TrainedAverage(self.ema)]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser. The rates of its groups warm up linearly, then decay polynomially, per step."""
        optimizer = build_optimizer(self.optimizer, self, self.segmenter.backbone, *self.group_rates)
        self.rates = PlannedRates(optimizer, StepPlan(planned_steps(self.trainer)), *self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.rates, "interval": "step"}}
