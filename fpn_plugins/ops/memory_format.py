"""Memory format of maps: NCHW or channels-last."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` (``B C H W``) is channels-last contiguous (and not also NCHW-contiguous)."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Memory format of ``x`` (``B C H W``), channels-last or contiguous.

    A backbone that computes on ``B H W C`` gives its maps the image's format: mmcv's RoIAlign reads any map as NCHW.
    """
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format
