"""Memory format of maps: NCHW or channels-last."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether ``x`` (``B C H W``) is channels-last contiguous (and not also NCHW-contiguous)."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def in_format_of(x: Tensor, other: Tensor) -> Tensor:
    """Return ``x`` in the memory format of ``other``, channels-last or NCHW-contiguous (both ``B C H W``)."""
    return x.contiguous(memory_format=torch.channels_last if is_channels_last(other) else torch.contiguous_format)


def as_map(tokens: Tensor, image: Tensor) -> Tensor:
    """Return tokens ``B H W C`` as a map ``B C H W`` in the memory format of the image.

    mmcv's RoIAlign reads any map as NCHW, so a backbone that computes on tokens must not return channels-last maps.
    """
    return in_format_of(tokens.permute(0, 3, 1, 2), image)
