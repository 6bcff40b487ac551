"""Register an operator under the name that mmcv calls, and share what operators need: precision and gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(function: Function) -> Function:
    """Register a function as the operator of its name; it runs without gradients and without autocast.

    Its first argument is a tensor, whose device is the operator's.
    """

    @functools.wraps(function)
    def call(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        device = first.device.type
        # the meta device knows no autocast
        autocast = nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
        with torch.no_grad(), autocast:
            return function(first, *args, **kwargs)

    OPERATORS[function.__name__] = call
    return function


def widened(*tensors: Tensor) -> list[Tensor]:
    """Convert floating-point tensors to their widest dtype, which is at least float32.

    Half precision is computed in float32, and results are rounded when they are stored.
    """
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    """Compute the gradients of ``function(*inputs)`` with respect to every input, by running it again.

    An input that the result does not depend on has gradient 0.
    """
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grad_output, materialize_grads=True)
