"""Whether a network is being recorded instead of run."""

from __future__ import annotations

import torch


def traced() -> bool:
    """Whether the computation is being recorded, by ``torch.compile``, ``torch.export`` or ``torch.jit.trace``."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
