"""What a training step takes: parameters, operations and memory, by the config alone: no weight is read or computed."""

import gc
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch
from weakref import WeakSet, finalize

import lightning
import numpy as np
import numpy.typing as npt
import torch
from huggingface_hub import constants
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

from ppar_lightning.data.loading import Batch
from ppar_lightning.method import clip, grid, text
from ppar_lightning.method.image_tower import ImageTower
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter.adapter import adapter_parameters

PRECISIONS = ("32-true", "bf16-mixed")
BATCHES = (1, 2, 4, 8, 16)
CARDS = (12, 24, 40, 80)
"""Memory of graphics cards, in GiB."""
USED = 0.9
"""Share of a card that tensors can take; the rest is for libraries and for gaps that the allocator cannot fill."""
CACHING = ("ppar_lightning.method.", "transformers.models.")
"""Modules whose cached functions keep tensors, such as DINOv3's positions."""
History = npt.NDArray[np.int64]
"""(n, 2): bytes that do not depend on the batch, and those of each image, after each change."""
IMAGES = 97
"""Batch of the step that is looked at. As it is a prime number that divides no usual size, the storages whose size it
divides are those that grow with the batch, and one step tells the memory of every batch."""

for kernel, formula in (("", flop_counter.sdpa_flop), ("_backward", flop_counter.sdpa_backward_flop)):
    operation = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{kernel}")
    flop_counter.flop_registry.setdefault(operation, formula)  # torch counts only the kernels of CUDA


class Ledger(TorchDispatchMode):
    """Records what operations take: FLOPs, and the bytes of the storages that they make, until nothing refers to them.

    Attributes:
        flops: Number of floating-point operations.
        bytes: Bytes at present: those that do not depend on the batch, and those of each image.
        history: All earlier values of ``bytes``.
    """

    def __init__(self) -> None:
        """Start at 0."""
        super().__init__()
        self.flops, self.bytes = 0, (0, 0)
        self.history: list[tuple[int, int]] = []
        self.known: WeakSet[torch.UntypedStorage] = WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation, and record what it takes."""
        result = func(*args, **(kwargs or {}))
        if count := flop_counter.flop_registry.get(func.overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                self.known.add(storage)
                self.add(storage.nbytes())
                finalize(storage, self.add, -storage.nbytes())
        return result

    def add(self, size: int) -> None:
        """Add bytes, or take them away."""
        fixed, each = self.bytes
        self.bytes = (fixed, each + size // IMAGES) if size % IMAGES == 0 else (fixed + size, each)
        self.history.append(self.bytes)


class Midway(lightning.Trainer):
    """A trainer in the middle of a training, where all terms of the objective are in use."""

    global_step = 1
    estimated_stepping_batches = 2


def plan(config: Namespace) -> list[list[str]]:
    """Estimate what a training step takes on one device, without sharding or compilation.

    The module of the config makes its step with tensors that have a shape and no content.

    Args:
        config: What ``ppar fit`` takes.

    Returns:
        Name and value of each quantity.

    Raises:
        OSError: The config of a model is not on this machine.
        ValueError: The module cannot be built.
    """
    module, flops, memory = trace(config)
    segmenter, number, crop = module.segmenter, config.data.batch_size, config.data.crop
    heads = nn.ModuleList(part for part in segmenter.children() if part is not segmenter.backbone)
    ids = adapter_parameters(segmenter)
    adapter = nn.ParameterList(p for p in segmenter.parameters() if id(p) in ids) if ids else None  # of the backbone
    parts: dict[str, nn.Module | None] = {"backbone": segmenter.backbone, "adapter": adapter, "heads": heads}
    parts |= {"objective": module.objective, "CLIP": tower_of(module)}
    rows = [[f"parameters, {name}", counted(part)] for name, part in parts.items() if part is not None]
    rows.append(["operations of a step", f"{flops * number / 1e12:.3f} TFLOP, {number} x {crop[0]} x {crop[1]} pixels"])
    for precision, each in memory.items():
        peaks, most = [f"{peak(each, batch):.2f}" for batch in BATCHES], [str(largest(each, card)) for card in CARDS]
        rows.append([f"peak memory in {precision}, batch {listed(BATCHES)}", f"{listed(peaks)} GiB"])
        rows.append([f"largest batch in {precision}, card of {listed(CARDS)} GiB", listed(most)])
    return rows


def trace(config: Namespace) -> tuple[PPARModule, float, dict[str, History]]:
    """Make a step in each precision with tensors that have no content.

    Returns:
        The module, its FLOPs for each image, and precision -> history of the bytes of a step.
    """
    ledger, memory, module = Ledger(), {}, build(config)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), ledger:
            optimizer = prepare(module)
            for precision in PRECISIONS:
                ledger.history.clear()
                step(module, optimizer, (IMAGES, *config.data.crop), precision)
                memory[precision] = np.array(ledger.history)
    finally:
        for each in filter(lambda each: type(each) is type(grid.overlap), gc.get_objects()):
            if str(each.__module__).startswith(CACHING):
                each.cache_clear()  # of tensors without content, which a training in this process would use
    return module, ledger.flops / len(PRECISIONS) / IMAGES, memory


def build(config: Namespace) -> PPARModule:
    """Build the module of a config on the meta device, as ``fit`` does but without weights and without the network."""
    model = config.model.clone()
    model.segmenter.pretrained, model.for_training, model.text_width = False, True, None
    model.ppar.context_every = 1  # so that this step looks at it
    model.ppar.clip_dtype = model.ppar.clip_dtype or ("float32" if config.trainer.accelerator == "cpu" else "bfloat16")
    parser = ArgumentParser()
    parser.add_class_arguments(PPARModule, "model")
    with (
        torch.device("meta"),
        patch.object(constants, "HF_HUB_OFFLINE", True),
        patch.object(clip, "load_weights", lambda kind, _, config: kind(config)),
        patch.object(text, "cached_embeddings", lambda m, _, w: torch.zeros(len(w), clip.joint_width(m))),
    ):
        module: PPARModule = parser.instantiate_classes(Namespace(model=model)).model
        if tower := tower_of(module):
            tower.move(torch.device("meta"), getattr(torch, model.ppar.clip_dtype))
    return module


def prepare(module: PPARModule) -> torch.optim.Optimizer:
    """Give a module from `build` weights on the CPU, of no particular value, gradients, and an optimiser with state."""
    module.to_empty(device="cpu")
    if tower := tower_of(module):
        tower.to_empty(device="cpu").place = (torch.device("cpu"), tower.place[1])
    # Logging works within a training alone, and Lightning does not learn of the device otherwise.
    vars(module).update(log=skip, log_dict=skip, _device=torch.device("cpu"))
    module.trainer = Midway(accelerator="cpu", devices=1, logger=False, log_every_n_steps=1)
    optimizer = module.configure_optimizers()["optimizer"]
    for parameter in filter(lambda p: p.requires_grad, module.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def tower_of(module: PPARModule) -> ImageTower | None:
    """Return CLIP's image tower, which is no submodule; None without one."""
    return module.objective.clip.tower if module.objective is not None and module.objective.clip is not None else None


def step(module: PPARModule, optimizer: torch.optim.Optimizer, shape: tuple[int, int, int], precision: str) -> None:
    """Make a training step in the order of Lightning, which keeps the former gradients up to the backward pass.

    Args:
        module: A module that is prepared.
        optimizer: Its optimiser.
        shape: Images, height and width of the batch.
        precision: One of `PRECISIONS`.
    """
    image, label = torch.rand(shape[0], 3, *shape[1:]), torch.zeros(shape, dtype=torch.long)
    batch = Batch(image=image, label=label, name=[], domain=[], error=[], padding=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        loss = module.training_step(batch, 0)
    optimizer.zero_grad()
    loss.backward()
    module.on_before_optimizer_step(optimizer)
    optimizer.step()


def skip(*_: Any, **__: Any) -> None:
    """Do nothing."""


def counted(module: nn.Module) -> str:
    """Count the parameters of a module, in millions: trained and frozen."""
    numbers = [sum(p.numel() for p in module.parameters() if p.requires_grad == trained) for trained in (True, False)]
    return f"{numbers[0] / 1e6:.2f} M trained, {numbers[1] / 1e6:.2f} M frozen"


def listed(values: Iterable[object]) -> str:
    """Write values of one row."""
    return " / ".join(map(str, values))


def peak(history: History, batch: int) -> float:
    """Return the peak memory with a batch, in GiB, by the (n, 2) history of a ledger."""
    return float((history @ (1, batch)).max() / 2**30)


def largest(history: History, card: int) -> int:
    """Return the largest batch whose peak fits a card with that much memory, in GiB; 0 if there is none."""
    fixed, each = history.T
    return max(0, int(((USED * card * 2**30 - fixed) / each.clip(1)).min()))
