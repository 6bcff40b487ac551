"""Whether a map lies in memory channels-last, or as usual."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` (``B C H W``) lies in memory channels-last, and not also as usual."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Whether ``x`` (``B C H W``) lies in memory channels-last, or as usual.

    A backbone that computes on ``B H W C`` gives its maps the image's format: mmcv's RoIAlign reads any map as if it
    lay as usual.
    """
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format
