"""Several ranks on this machine, for tests: forked, since each would import torch anew otherwise."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def as_rank(rank: int, world: int, nodes: int, port: int, function: Callable, arguments: tuple[Any, ...]) -> None:
    """Run a function with the environment that torchrun gives the processes of a node each of the same size."""
    torch.set_num_threads(1)
    local = world // nodes
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % local),
        "LOCAL_WORLD_SIZE": str(local),
        "GROUP_RANK": str(rank // local),
        "TORCHELASTIC_RUN_ID": "test",
    }
    function(*arguments)


def run_ranks(world: int, function: Callable, *arguments: Any, nodes: int = 1) -> None:
    """Run a function on every rank of a world, as torchrun would, and wait; an error of a rank is raised here."""
    mp.start_processes(as_rank, (world, nodes, free_port(), function, arguments), nprocs=world, start_method="fork")
