"""Detect tracing: a network that is recorded instead of run."""

from __future__ import annotations

import torch


def traced() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` is recording the computation."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
