"""The optimiser's step: by one kernel for all parameters, which can leave them as they are without the host knowing."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

FUSED = (SGD, Adam, AdamW)
"""Optimisers whose fused kernels obey ``found_inf`` on CUDA and on the CPU."""


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
