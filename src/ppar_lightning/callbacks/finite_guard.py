"""The guard against NaN and inf: a step whose loss or gradients hold one never reaches weights, banks or statistics."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor
from torch.distributed.tensor import DTensor

from ppar_lightning.callbacks.skipped import line_of
from ppar_lightning.data.loading import Batch
from ppar_lightning.disk.files import write_whole
from ppar_lightning.distributed import all_reduce_sum, world_size

Policy = Literal["raise", "skip"]
Seen = tuple[Batch, dict[str, Tensor]]
"""A batch and its loss terms."""
Fault = tuple[str, Batch]
"""What is not finite, and the batch it belongs to."""
MAX_IN_A_ROW = 20
"""Steps in a row that are left out before training is given up: it would go on without learning."""
REMEDY = "lower the learning rate or raise --trainer.precision, or leave such steps out with --detect_nan skip"


class Row(NamedTuple):
    """One image of a step that holds a NaN or inf."""

    step: int
    rank: int
    term: str
    domain: str
    name: str


class FiniteGuard(L.Callback):
    """Stop at a NaN or inf in a loss term or a gradient, or leave that step out.

    One look at all terms and gradients a step, after the backward passes and before the optimiser; all ranks decide
    alike. Whatever is decided, buffers (banks, statistics, batch norm) are put back to where they were before the step,
    and no gradient is left. A step that is left out still counts as one in the schedules. Steps are numbered from 0, as
    in the curves.

    With fp16 the scaler's own search for inf is not a fault: as long as the scale is above 1 gradients may overflow
    because of it, the scaler leaves the step out and lowers the scale. At 1 and below they count.
    """

    def __init__(self, policy: Policy = "raise") -> None:
        """Set what happens.

        Args:
            policy: ``raise`` ends the run and saves the batch in ``nonfinite/`` in the run folder; ``skip`` leaves the
                step out, lists its images in ``nonfinite.csv`` there, and ends the run after 20 steps in a row.
        """
        self.policy = policy
        self._buffers: list[Tensor] = []
        self._batch: Batch
        self._seen: list[Seen] = []
        self._in_a_row = 0

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, _: int) -> None:
        """Remember the batch, and the buffers before the first batch of a step."""
        self._batch = batch
        if self._seen:
            return
        self._buffers = self._buffers or [torch.empty_like(buffer) for buffer in pl_module.buffers()]
        copy(self._buffers, pl_module.buffers())

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the batch's loss terms; there are several batches where gradients are accumulated."""
        self._seen.append((self._batch, pl_module.loss_terms))  # type: ignore[arg-type]

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the step.

        Raises:
            ValueError: It holds a NaN or inf, and the policy is ``raise`` or 20 steps before it did too.
        """
        seen, self._seen = self._seen, []
        bad_terms, bad_gradients = look(seen, optimizer)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if bad_gradients and not bad_terms and scaler is not None:
            bad_gradients = scaler.get_scale() <= 1
        if not bad_terms and not bad_gradients:
            self._in_a_row = 0
            return
        faults = find_terms(seen) if bad_terms else find_gradient(seen, pl_module)
        copy(pl_module.buffers(), self._buffers)
        optimizer.zero_grad(set_to_none=True)
        self._in_a_row += 1
        self._report(trainer, faults)

    def _report(self, trainer: L.Trainer, faults: list[Fault]) -> None:
        step, rank, folder = trainer.global_step, trainer.global_rank, Path(trainer.default_root_dir)
        rows = gather(
            [
                Row(step, rank, term, domain, name)
                for term, batch in faults
                for domain, name in zip(batch["domain"], batch["name"], strict=True)
            ]
        )
        terms = " and ".join(dict.fromkeys(row.term for row in rows))
        images = ", ".join(dict.fromkeys(f"{row.domain}: {row.name}" for row in rows))
        message = f"step {step}: {terms} with the batch of {images}"
        if self.policy == "raise":
            path = folder / "nonfinite" / f"step_{step}_rank_{rank}.pt"
            state = "is saved in"
            try:
                if faults:
                    save([batch for _, batch in faults], path)
            except OSError as error:  # what went wrong in training counts more than the disk
                state = f"could not be saved ({error.strerror}) in"
            raise ValueError(f"{message}; the batch {state} {path.parent}; {REMEDY}")
        if trainer.is_global_zero:
            append(folder / "nonfinite.csv", rows)
        if self._in_a_row == MAX_IN_A_ROW:
            raise ValueError(f"{message}, as in the {MAX_IN_A_ROW - 1} steps before; {REMEDY}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many steps were left out."""
        path = Path(trainer.default_root_dir) / "nonfinite.csv"
        if trainer.is_global_zero and path.is_file():
            with path.open(newline="") as file:
                count = len({row["step"] for row in csv.DictReader(file)})
            steps = "1 step was" if count == 1 else f"{count} steps were"
            Console().print(f"{steps} left out for a NaN or inf, listed in {path}")


@torch.no_grad()
def copy(target: Iterable[Tensor], source: Iterable[Tensor]) -> None:
    """Write tensors over others of the same shapes."""
    for each, other in zip(target, source, strict=True):
        each.copy_(other)


def look(seen: Sequence[Seen], optimizer: torch.optim.Optimizer) -> list[bool]:
    """Say whether a loss term and a gradient hold a NaN or inf, on any rank; one synchronisation with the device."""
    gradients = [own(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, norm_type=1)  # squares would overflow long before the gradients
    terms = torch.stack([term for _, terms in seen for term in terms.values()])
    bad = torch.stack([terms.isfinite().logical_not().any().to(norm.device), norm.isfinite().logical_not()])
    return all_reduce_sum(bad.float()).gt(0).tolist()


def own(gradient: Tensor) -> Tensor:
    """Give the part of a gradient that this rank holds, which is all of it but under FSDP."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def find_terms(seen: Sequence[Seen]) -> list[Fault]:
    """Name the loss terms of this rank that are not finite; none if they are another rank's."""
    named = [(batch, name, float(term)) for batch, terms in seen for name, term in terms.items()]
    return [(f"loss term {name!r} is {value}", batch) for batch, name, value in named if not math.isfinite(value)]


def find_gradient(seen: Sequence[Seen], module: L.LightningModule) -> list[Fault]:
    """Name the parameters whose gradient is not finite; it may be of any batch of the step."""
    bad = [name for name, p in module.named_parameters() if p.grad is not None and not own(p.grad).isfinite().all()]
    others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return [(f"gradient of {bad[0]!r}{others} is not finite", batch) for batch, _ in seen] if bad else []


def gather(rows: list[Row]) -> list[Row]:
    """Collect what all ranks found."""
    found: list[list[Row]] = [rows] * world_size()
    if world_size() > 1:
        dist.all_gather_object(found, rows)
    return [row for each in found for row in each]


def save(batches: Sequence[Batch], path: Path) -> None:
    """Save batches as they went into the model: ``image``, ``label``, ``name``, ``domain``; weights_only reads them.

    Raises:
        OSError: They cannot be written; nothing is left of them.
    """
    unique = list({id(batch): batch for batch in batches}.values())
    tensors = {key: torch.cat([batch[key].cpu() for batch in unique]) for key in ("image", "label")}
    texts = {key: [text for batch in unique for text in batch[key]] for key in ("name", "domain")}
    content = io.BytesIO()
    torch.save(tensors | texts, content)
    write_whole(path, content.getvalue())


def append(path: Path, rows: Sequence[Row]) -> None:
    """List images once; a resumed run may meet a step again.

    Raises:
        OSError: The list cannot be written; it is as it was.
    """
    listed = path.read_text().splitlines(keepends=True) if path.is_file() else []
    lines = [line_of(map(str, row)) for row in (Row._fields, *rows)]
    write_whole(path, "".join(dict.fromkeys(listed + lines)).encode())
