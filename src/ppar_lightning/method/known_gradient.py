"""Losses whose gradient is known as soon as their value is, so that autograd records and stores nothing of them."""

from typing import Any

import torch
from torch import Tensor


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Keep the gradient."""
        context.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(context: Any, *scale: Tensor) -> tuple[Tensor, None, None]:
        """Scale it."""
        (gradient,) = context.saved_tensors
        return scale[0] * gradient, None, None


def known_gradient(tensor: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar that depends on a tensor by a gradient that was computed with it.

    Args:
        tensor: The tensor that the scalar depends on.
        value: The scalar, without gradient.
        gradient: d value / d tensor, of the shape of ``tensor``; it is kept in the type of ``tensor``, except in fp16,
            which could not hold it before the loss is scaled.
    """
    kept = gradient if tensor.dtype == torch.float16 else gradient.to(tensor.dtype)
    known: Tensor = _Known.apply(tensor, value, kept)
    return known
