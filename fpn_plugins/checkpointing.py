"""Gradient checkpointing: the maps inside a module are computed again in the backward pass instead of being kept.

Training Deep Nets with Sublinear Memory Cost (Chen et al., arXiv:1604.06174). On top of PyTorch's own function, batch
norms see each batch once: computing a map a second time does not move their running statistics a second time, as it
does with mmdet's ``with_cp``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def traced() -> bool:
    """Whether the computation is being recorded, by ``torch.compile``, ``torch.export`` or ``torch.jit.trace``."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def run(function: Callable[..., Any], *arguments: Any, checkpointed: bool) -> Any:
    """``function(*arguments)``, a module or a method of one; when ``checkpointed``, only the arguments are kept.

    Without gradients there is nothing to save, and under ``torch.compile`` the compiler decides what to keep.
    """
    if not checkpointed or not torch.is_grad_enabled() or traced():
        return function(*arguments)
    module: Any = getattr(function, "__self__", function)
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=partial(_contexts, module))


def linear_after(cheap: Callable[..., Tensor], linear: nn.Linear, x: Tensor, *parameters: Tensor) -> Tensor:
    """``linear(cheap(x, *parameters))``, of which the backward pass keeps only ``x``.

    What stands before a linear layer, a norm or an activation, is as large as its input and costs next to nothing: it
    is computed again, the layer itself is not. Not differentiable twice. A layer with hooks, or of a class derived from
    ``nn.Linear``, is called as it is.

    Args:
        cheap: a function of its arguments alone, free of randomness.
        linear: the layer behind it.
        x: the only large tensor that ``cheap`` reads.
        parameters: what else it reads that gets gradients.
    """
    hooked = linear._forward_hooks or linear._forward_pre_hooks
    if not torch.is_grad_enabled() or traced() or type(linear) is not nn.Linear or hooked:
        return linear(cheap(x, *parameters))
    return _LinearAfter.apply(cheap, x, linear.weight, linear.bias, *parameters)


class _LinearAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cheap: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.cheap = cheap
        ctx.autocast = torch.is_autocast_enabled(x.device.type), torch.get_autocast_dtype(x.device.type)
        ctx.save_for_backward(x, weight, *parameters)
        return F.linear(cheap(x, *parameters), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        enabled, dtype = ctx.autocast
        with torch.autocast(grad.device.type, dtype, enabled):
            sources = [source.detach().requires_grad_() for source in (x, *parameters)]
            with torch.enable_grad():
                before = ctx.cheap(*sources)
            grad_before = (grad @ weight.to(grad.dtype)).to(before.dtype)
            grad_x, *grad_parameters = torch.autograd.grad(before, sources, grad_before)
            rows = grad.flatten(0, -2)
            grad_weight = rows.t() @ before.detach().flatten(0, -2).to(grad.dtype) if needs_weight else None
            grad_bias = rows.sum(0) if needs_bias else None
        return None, grad_x, grad_weight, grad_bias, *grad_parameters


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second computation."""
    return nullcontext(), _keep_statistics(module)


@contextmanager
def _keep_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms inside ``module`` normalise as ever, and remember nothing."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # not a restored copy: autograd holds the statistics and would see them change
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
