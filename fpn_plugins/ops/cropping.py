"""Pad images to whole cells, and crop or pad maps: to their share of an image, or to the size of a finer map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import compiling
from .tracing import traced
from .windows import windows_along


def pad_to_cells(x: Tensor, cell: int) -> Tensor:
    """Zero-pad images ``B C H W`` on the right and at the bottom until ``cell`` divides both sides."""
    below, beside = (windows_along(side, cell) * cell - side for side in x.shape[-2:])
    # a trace must not depend on the size
    if traced() or below or beside:
        return F.pad(x, (0, beside, 0, below))
    return x


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop to the upper left ``size``; negative padding, unlike a slice, keeps the memory format."""
    below, beside = x.shape[-2] - size[0], x.shape[-1] - size[1]
    if traced() or below or beside:
        return F.pad(x, (0, -beside, 0, -below))
    return x


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop or pad a doubled map to the size of the finer map, which is at most one cell larger or smaller.

    An extra row or column is cropped where the finer map has an odd side; the last one is repeated where the coarser
    map was rounded down.

    Args:
        x: ``B C 2h 2w``.
        size: ``(H, W)`` of the finer map.

    Raises:
        ValueError: the finer map is larger or smaller by more than one cell.
    """
    if not torch.jit.is_scripting() and compiling():
        return _fit_any(x, size)
    down, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    if max(down, right) > 1 or min(down, right) < -1:
        too = "small" if max(down, right) > 1 else "large"
        raise ValueError(
            f"upsampling doubles a map to {x.shape[-2]} x {x.shape[-1]}, which is too {too} for {size[0]} x {size[1]}; "
            "choose adjacent stages of the backbone, or upsample_mode='nearest'"
        )
    if down > 0 or right > 0:
        x = F.pad(x, (0, max(right, 0), 0, max(down, 0)), mode="replicate")
    return x[..., : size[0], : size[1]]


def _fit_any(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute `fit` in one graph for all sizes: always repeat the last cells, then crop."""
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    for have, want in zip(x.shape[-2:], size, strict=True):
        torch._check(want <= have, lambda: "upsampling doubles a map, which is too small for the finer one")
    return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))  # negative
