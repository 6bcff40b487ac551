"""Detect tracing, which records a network instead of running it."""

from __future__ import annotations

import torch

from ..compat import compiling


def traced() -> bool:
    """Return whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` is recording the computation."""
    return compiling() or torch.jit.is_tracing()
