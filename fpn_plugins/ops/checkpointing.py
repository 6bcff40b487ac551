"""Gradient checkpointing: recompute the maps inside a module in the backward pass instead of keeping them.

Training Deep Nets with Sublinear Memory Cost (Chen et al., arXiv:1604.06174). Unlike with PyTorch's own function alone
(and mmdet's ``with_cp``), the recomputation does not update the running statistics of batch norms a second time.
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

from ..compat import compiling, exporting
from .tracing import traced


def run(function: Callable[..., Any], *arguments: Any, checkpointed: bool) -> Any:
    """Call ``function`` (a module or one of its methods); if ``checkpointed``, keep only the arguments for backward.

    ``checkpointed`` has no effect without gradients, or in an export or trace. ``torch.compile`` recomputes the same
    maps, and updates the running statistics once by itself.
    """
    compiled = compiling() and not exporting()
    if not checkpointed or not torch.is_grad_enabled() or (traced() and not compiled):
        return function(*arguments)
    if compiled:
        return checkpoint(function, *arguments, use_reentrant=False)
    module: Any = getattr(function, "__self__", function)
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return contexts for the first and the second computation."""
    return nullcontext(), _keep_statistics(module)


@contextmanager
def _keep_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms inside ``module`` normalize as usual, without updating their statistics."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # saving and restoring the statistics would modify tensors that autograd holds
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
