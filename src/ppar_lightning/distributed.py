"""Sums over all ranks, so that N ranks with batch b compute what one rank computes with batch N b; sharding."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import DeviceMesh


def world_size() -> int:
    """Return the number of ranks, 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, 0 outside a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait until every rank has reached this call."""
    if world_size() > 1:
        dist.barrier()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks, without gradient. Outside a process group, return it unchanged.

    Args:
        tensor: A tensor of any shape, which must be the same on every rank. It is overwritten.
    """
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def sum_together(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum several tensors over all ranks in one reduction, without gradient and without reading the device.

    Args:
        parts: Name -> float tensor of any shape on the device; names and shapes must be the same on every rank.

    Returns:
        Name -> sum, in the same shapes.
    """
    if not parts:
        return {}
    total = all_reduce_sum(torch.cat([part.flatten() for part in parts.values()]))
    sums = total.split([part.numel() for part in parts.values()])
    return {name: each.view(parts[name].shape) for name, each in zip(parts, sums, strict=True)}


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of rank 0; nothing happens outside a process group."""
    for tensor in tensors if world_size() > 1 else ():
        dist.broadcast(tensor, 0)


def gather(part: Any) -> list[Any]:
    """Return the objects of all ranks, in the order of the ranks.

    Args:
        part: The object of this rank; it must be picklable.
    """
    parts = [part] * world_size()
    if world_size() > 1:
        dist.all_gather_object(parts, part)
    return parts


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard each block of a network, then the rest of it, so that only one block at a time is gathered.

    A block is an element of a ``ModuleList``, in which backbones list their layers. Buffers, including prototypes and
    statistics, stay whole and in their own precision on every rank.

    Args:
        module: The network. It must be run by calling it, because the call gathers its parameters. A module without
            parameters is left unchanged.
        mesh: One-dimensional mesh of the ranks.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard  # here, because few runs shard

    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    blocks = [block for each in reversed(lists) for block in each]  # the inner ones first
    for part in (*blocks, module):
        container = isinstance(part, (nn.ModuleList, FSDPModule))
        if not container and next(part.parameters(), None) is not None:
            fully_shard(part, mesh=mesh)
