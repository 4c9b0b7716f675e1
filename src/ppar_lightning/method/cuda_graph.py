"""A CUDA graph: the kernels of a fixed computation, which the host launches all at once."""

from collections.abc import Callable

import torch
from torch import Tensor


class CudaGraph:
    """A function of one tensor, without gradient, recorded for inputs of one shape.

    The recording holds addresses: whatever else the function reads, such as weights, must stay where it is.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        """Record the function.

        Args:
            function: It reads nothing on the host, and returns a new tensor.
            example: Input on a CUDA device, of the shape and type that all others have.

        Raises:
            RuntimeError: The function cannot be recorded, or the memory is too small.
        """
        self._input = example.clone()
        with torch.cuda.device(example.device):
            self._graph = torch.cuda.CUDAGraph()
            stream, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(stream)
            with torch.cuda.stream(side):
                for _ in range(3):  # libraries choose kernels and workspaces in their first calls
                    function(self._input)
            stream.wait_stream(side)
            # Other threads may call CUDA meanwhile: those of pinned memory and of NCCL. The outer context brings the
            # stream back also if recording fails.
            with torch.cuda.stream(stream), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = function(self._input)

    def __call__(self, value: Tensor) -> Tensor:
        """Return the function's value as a tensor of its own."""
        self._input.copy_(value)
        self._graph.replay()
        return self._output.clone()
