"""Read maps between their cells: bilinear interpolation at places that a network predicts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_at_offsets(x: Tensor, offsets: Tensor) -> Tensor:
    """Resize a map to the grid of ``offsets``, reading each new cell at its own place plus an offset.

    Zero offsets are bilinear resizing (``align_corners=False``), or the map itself at the same size. Places beyond the
    border read the outermost cells. The places are computed in single precision at least, as half precision cannot tell
    the cells of a large map apart.

    Args:
        x: ``B C h w``.
        offsets: ``B 2*G H W`` in cells of ``x``, for ``G`` groups of channels: first the steps of all groups to the
            right, then those down.

    Returns:
        ``B C H W`` in the dtype of ``x``.
    """
    groups = offsets.shape[1] // 2
    height, width = offsets.shape[-2], offsets.shape[-1]
    precise = torch.promote_types(offsets.dtype, torch.float32)
    steps = offsets.to(precise).unflatten(1, (2, groups))
    # places in [-1, 1] from border to border, as `grid_sample` counts
    right = (2 * torch.arange(width, dtype=precise, device=x.device) + 1) / width - 1
    down = (2 * torch.arange(height, dtype=precise, device=x.device) + 1) / height - 1
    columns = right + steps[:, 0] * (2 / x.shape[-1])
    rows = down.unsqueeze(1) + steps[:, 1] * (2 / x.shape[-2])
    places = torch.stack((columns, rows), dim=-1).flatten(0, 1)  # B*G H W 2
    grouped = x.unflatten(1, (groups, -1)).flatten(0, 1).to(precise)
    sampled = F.grid_sample(grouped, places, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.unflatten(0, (-1, groups)).flatten(1, 2).to(x.dtype)
