"""FSDP: parameters, gradients and the optimiser's state are split over the ranks where one device cannot hold them."""

from torch import nn
from torch.distributed import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every block of a network, then what is left of it, so that one block at a time is gathered.

    A block is an element of a ``ModuleList``, which is how backbones list their layers. Buffers, prototypes and their
    statistics among them, stay whole and in their own precision on every rank.

    Args:
        module: Called as a module, since its parameters are gathered then; without parameters it is left alone.
        mesh: The ranks, one dimension.
    """
    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    blocks = [block for each in reversed(lists) for block in each]  # the inner ones first
    for part in (*blocks, module):
        container = isinstance(part, (nn.ModuleList, FSDPModule))
        if not container and next(part.parameters(), None) is not None:
            fully_shard(part, mesh=mesh)
