"""The optimiser: its groups of parameters; its step by one kernel, which can leave them as they are on the device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from ppar_lightning.segmenter.adapter import adapter_parameters
from ppar_lightning.segmenter.backbones import Backbone, stem_and_stages

FUSED = (SGD, Adam, AdamW)
"""Optimisers whose fused kernels obey ``found_inf`` on CUDA and on the CPU."""


def build_optimizer(
    make: Callable[..., Optimizer],
    module: nn.Module,
    backbone: Backbone,
    backbone_lr: float,
    adapter_lr: float | None,
    layer_decay: float,
) -> Optimizer:
    """Build an optimiser of the trained parameters, with named groups that have learning rates of their own.

    The groups are ``head``, which holds all that is not in the backbone, ``backbone`` and ``adapter``. With a
    ``layer_decay`` below 1, each layer of the backbone has its own, such as ``backbone.3``. Layers are what
    ``freeze_stages`` counts: 0 is the stem, 1 the first stage (or block of a plain ViT). The rate of layer k of n is
    multiplied by layer_decay^(n + 1 - k), as in BEiT (arXiv 2106.08254), and that of a norm behind the last by 1.

    Args:
        make: Builds the optimiser from a list of groups.
        module: What is trained.
        backbone: The backbone in it.
        backbone_lr: Rate of the backbone as a multiple of that of the heads.
        adapter_lr: The same for its adapters; None: as the backbone.
        layer_decay: Factor from the rate of a layer to that of the layer before, above 0 and at most 1.

    Raises:
        ValueError: The decay is outside its range, or no adapter is there for its rate.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"model.layer_decay is {layer_decay}: give a number above 0 and at most 1")
    factors = {"head": 1.0, "backbone": backbone_lr, "adapter": backbone_lr if adapter_lr is None else adapter_lr}
    layers, top, adapters = layer_numbers(backbone), backbone.depth + 1, adapter_parameters(backbone)
    groups: dict[tuple[str, int], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            part = "head" if id(parameter) not in layers else "adapter" if id(parameter) in adapters else "backbone"
            layer = layers.get(id(parameter), top) if layer_decay < 1 else top
            groups.setdefault((part, layer), []).append(parameter)
    if adapter_lr is not None and all(part != "adapter" for part, _ in groups):
        fault = f"model.adapter_lr is {adapter_lr}, but there is no adapter"
        raise ValueError(f"{fault}: leave it out, or set --model.segmenter.adapter.kind")
    order = sorted(groups, key=lambda group: ([*factors].index(group[0]), group[1]))
    names = {group: group[0] if group[0] == "head" or layer_decay == 1 else f"{group[0]}.{group[1]}" for group in order}
    optimizer = make([{"params": groups[group], "name": names[group]} for group in order])
    for options, (part, layer) in zip(optimizer.param_groups, order, strict=True):
        options["lr"] *= factors[part] * layer_decay ** (top - layer)
    fuse(optimizer)
    return optimizer


def layer_numbers(backbone: Backbone) -> dict[int, int]:
    """Return the number of the layer of each parameter, by its id: 0 before the first, depth + 1 behind the last."""
    stem, stages = stem_and_stages(backbone.network, backbone.depth)
    numbers = {id(parameter): backbone.depth + 1 for parameter in backbone.parameters()}
    for module, number in [*((module, 0) for module in stem), *zip(stages, range(1, len(stages) + 1), strict=True)]:
        numbers |= {id(parameter): number for parameter in module.parameters()}
    return numbers


def fuse(optimizer: Optimizer) -> None:
    """Choose the fused kernel, unless the user chose another or it lacks what is asked for: it is no other algorithm.

    Parameters that FSDP shards keep the kernels of before.
    """
    groups = optimizer.param_groups
    chosen = any(group.get(name) is not None for group in groups for name in ("fused", "foreach"))
    # the fused SGD would ignore the dampening of a buffer that starts at 0
    lacking = any(group.get(name) for group in groups for name in ("differentiable", "dampening"))
    parameters = [p for group in groups for p in group["params"]]
    plain = all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in parameters)
    if type(optimizer) in FUSED and plain and not chosen and not lacking:
        for group in groups:
            group["fused"] = True
        _start_momentum(optimizer)
        optimizer.register_load_state_dict_post_hook(_start_momentum)


def _start_momentum(optimizer: Optimizer) -> None:
    """Give SGD all of its buffers at once: its fused kernel takes no parameter whose first gradient comes later."""
    for group in optimizer.param_groups:
        for p in group["params"] if group.get("momentum") else []:
            optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))


def refit(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state to load with the kernels of an optimiser: its step counters then go where these read them."""
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    return state | {"param_groups": [old | {n: own[n] for n in ("fused",) if n in own} for old, own in groups]}


def withhold(optimizer: Optimizer, good: Tensor) -> Tensor | bool:
    """Make the next step leave parameters and state untouched unless ``good``, a 0-dim bool on the device.

    Returns:
        The same; as a bool, after a read of the device, if the optimiser has no fused kernel.
    """
    if type(optimizer) in FUSED and all(group["fused"] for group in optimizer.param_groups):
        for group in optimizer.param_groups:  # a callback may have set it meanwhile; torch would take it
            group["foreach"] = False
        vars(optimizer).update(found_inf=good.logical_not().float())  # torch's name, made for its scaler of fp16
        return good
    known = bool(good)
    if not known:
        optimizer.zero_grad()  # a parameter without a gradient is passed over
    return known
