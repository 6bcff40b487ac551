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
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .tracing import traced


def run(function: Callable[..., Any], *arguments: Any, checkpointed: bool) -> Any:
    """``function(*arguments)``, a module or a method of one; when ``checkpointed``, only the arguments are kept.

    Without gradients there is nothing to save, and under ``torch.compile`` the compiler decides what to keep.
    """
    if not checkpointed or not torch.is_grad_enabled() or traced():
        return function(*arguments)
    module: Any = getattr(function, "__self__", function)
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second computation."""
    return nullcontext(), _keep_statistics(module)


@contextmanager
def _keep_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms inside ``module`` normalize as usual, without updating their statistics."""
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
