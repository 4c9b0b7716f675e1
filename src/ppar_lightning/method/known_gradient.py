"""Losses whose gradient is known as soon as their value is, so that autograd records and stores nothing of them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        context.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(context: Any, *scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = context.saved_tensors
        return scale[0] * gradient, None, None


def known_gradient(tensor: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar that depends on a tensor by a gradient that was computed with it.

    Args:
        tensor: The tensor that the scalar depends on.
        value: The scalar, without gradient.
        gradient: d value / d tensor, of the shape of ``tensor``; it is kept in the type of ``tensor``.
    """
    known: Tensor = _Known.apply(tensor, value, gradient.to(tensor.dtype))
    return known


class _Untouched(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, like: Tensor, *parameters: Tensor) -> Tensor:
        context.shapes = [parameter.shape for parameter in parameters]
        return like.new_zeros(())

    @staticmethod
    def backward(context: Any, *scale: Tensor) -> tuple[Tensor | None, ...]:
        sizes = [shape.numel() for shape in context.shapes]
        parts = scale[0].new_zeros(sum(sizes)).split(sizes)
        return None, *(part.view(shape) for part, shape in zip(parts, context.shapes, strict=True))


def untouched(parameters: Iterable[Tensor], like: Tensor) -> Tensor:
    """Return 0 with a gradient of 0 for each parameter: DDP and FSDP need one from every parameter in every step.

    Args:
        parameters: The parameters, of one type.
        like: A tensor of the device and type of the result.
    """
    nothing: Tensor = _Untouched.apply(like, *parameters)
    return nothing
