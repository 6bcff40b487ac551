"""Sum neighborhoods with predicted weights, without materializing the neighborhoods."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def reassemble(x: Tensor, weights: Tensor, kernel_size: int, border: str = "constant") -> Tensor:
    """Compute CARAFE's weighted sums of neighborhoods, several per cell (paper, equation 4).

    Args:
        x: ``B C h w``.
        weights: ``B G K*K S h w``: for each of ``G`` groups of channels, ``S`` kernels of ``K x K`` cells.
        kernel_size: ``K``, odd.
        border: what lies beyond the map: ``"constant"`` (zeros) or ``"replicate"`` (its outermost cells).

    Returns:
        ``B C*S h w`` in the dtype of ``x``; channel ``c * S + s`` is the sum of channel ``c`` with kernel ``s``.
    """
    height, width, margin = x.shape[-2], x.shape[-1], kernel_size // 2
    padded = F.pad(x, (margin, margin, margin, margin), mode=border).unflatten(1, (weights.shape[1], -1)).unsqueeze(3)
    taps = weights.unsqueeze(2).unbind(3)  # each B G 1 S h w, broadcast with B G C/G 1 h w
    total = padded[..., :height, :width] * taps[0]
    for number in range(1, len(taps)):
        row, column = number // kernel_size, number % kernel_size
        total.addcmul_(padded[..., row : row + height, column : column + width], taps[number])
    return total.flatten(1, 3).to(x.dtype)
