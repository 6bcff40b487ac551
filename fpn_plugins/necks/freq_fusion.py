"""FreqFusion: Frequency-aware Feature Fusion for Dense Image Prediction (Chen et al., TPAMI 2024, arXiv:2408.12879).

::

    coarse --low-pass filter, x2--resample at offsets--(+)--> merged
                ^                     ^                 |
                +--------guide--------+--------+        |
                                               v        |
    fine ------------------x + high-pass filter of x----+

Written from a description of the paper, not from the authors' code, which has no license. Where it leaves a choice:
a map continues beyond its border with its outermost cells, so that filters keep a constant map; similarities to cells
beyond the border are zero; the generators of the filters are shared between the first and the final fusion.
The numbers of parameters and MACs in the paper's tables have not been compared with this module's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import divisor, integer, positive_int
from ..layers import init_convs
from ..ops.cropping import fit
from ..ops.memory_format import in_format_of
from ..ops.reassembly import reassemble
from ..ops.sampling import sample_at_offsets

NEIGHBORS = 8


class FreqFusion(nn.Module):
    """Sum of a fine map and the upsampled coarse map, after filters that are predicted for each cell.

    A *guide*, the sum of both maps with fewer channels, predicts three things for each cell of the fine map: a low-pass
    filter, by which the coarse map is upsampled, so that objects become uniform; offsets, at which the result is read
    again, so that cells at a boundary take the value of similar neighbors; and a low-pass filter whose residual is
    added to the fine map, so that boundaries become sharp.

    Args:
        channels: channels of both maps.
        compressed_channels: channels of the guide.
        low_pass_kernel_size: side of the low-pass filters in coarse cells; odd.
        high_pass_kernel_size: side of the high-pass filters in fine cells; odd.
        groups: number of channel groups, each with its own offsets.

    State dict: ``fine_compressor``, ``coarse_compressor``, ``low_pass``, ``high_pass``, ``offset``, ``offset_scale``.

    Raises:
        ValueError: an even kernel size, or ``groups`` that do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        compressed_channels: int = 64,
        low_pass_kernel_size: int = 5,
        high_pass_kernel_size: int = 3,
        groups: int = 4,
    ) -> None:
        super().__init__()
        guide = positive_int("compressed_channels", compressed_channels)
        self.low_pass_kernel_size = _odd("low_pass_kernel_size", low_pass_kernel_size)
        self.high_pass_kernel_size = _odd("high_pass_kernel_size", high_pass_kernel_size)
        divisor("groups", groups, channels, "channels")
        self.fine_compressor = nn.Conv2d(channels, guide, 1)
        self.coarse_compressor = nn.Conv2d(channels, guide, 1)
        self.low_pass = nn.Conv2d(guide, low_pass_kernel_size**2, 3, padding=1)
        self.high_pass = nn.Conv2d(guide, high_pass_kernel_size**2, 3, padding=1)
        self.offset = nn.Conv2d(guide + NEIGHBORS, 2 * groups, 3, padding=1)
        self.offset_scale = nn.Conv2d(guide + NEIGHBORS, 2 * groups, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights with which filters are nearly uniform and offsets nearly zero."""
        init_convs(self, "xavier_uniform")
        for layer in (self.low_pass, self.high_pass, self.offset, self.offset_scale):
            nn.init.normal_(layer.weight, std=0.001)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (``B C H W``) and ``coarse``, half as large, rounded either way, to ``B C H W``."""
        x, y = self.fine_compressor(fine), self.coarse_compressor(coarse)
        guide = x + F.interpolate(y, (x.shape[-2], x.shape[-1]), mode="nearest")
        guide = self.sharpen(x, guide) + self.smooth(y, guide)
        merged = self.sharpen(fine, guide) + self.resample(self.smooth(coarse, guide), guide)
        return in_format_of(merged, fine)

    def smooth(self, coarse: Tensor, guide: Tensor) -> Tensor:
        """Upsample ``B C h w`` to the size of the guide: each new cell is a weighted mean around its coarse cell."""
        size = (guide.shape[-2], guide.shape[-1])
        weights = fit(self.low_pass(guide), (2 * coarse.shape[-2], 2 * coarse.shape[-1]))
        taps = self.low_pass_kernel_size * self.low_pass_kernel_size
        weights = F.pixel_unshuffle(weights, 2).unflatten(1, (1, taps, 4)).softmax(2)  # B 1 K*K 4 h w
        doubled = reassemble(coarse, weights, self.low_pass_kernel_size, "replicate")
        return fit(F.pixel_shuffle(doubled, 2), size)

    def sharpen(self, fine: Tensor, guide: Tensor) -> Tensor:
        """Add to ``B C H W`` its difference to a weighted mean around each cell."""
        taps = self.high_pass_kernel_size * self.high_pass_kernel_size
        weights = self.high_pass(guide).unflatten(1, (1, taps, 1)).softmax(2)  # B 1 K*K 1 H W
        return fine + (fine - reassemble(fine, weights, self.high_pass_kernel_size, "replicate"))

    def resample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Read ``B C H W`` at offsets of up to a few cells, predicted from the guide and its local similarities."""
        read = torch.cat((guide, local_similarity(guide)), dim=1)
        return sample_at_offsets(x, self.offset(read) * self.offset_scale(read).sigmoid())


def local_similarity(x: Tensor) -> Tensor:
    """Compute the cosine similarity of each cell with its neighbors, row by row: ``B C H W`` to ``B 8 H W``."""
    height, width = x.shape[-2], x.shape[-1]
    unit = F.normalize(x, dim=1)
    padded = F.pad(unit, (1, 1, 1, 1))
    similarities: list[Tensor] = []
    for number in range(9):
        row, column = number // 3, number % 3
        if number != 4:
            similarities.append((unit * padded[..., row : row + height, column : column + width]).sum(1))
    return torch.stack(similarities, dim=1)


def _odd(argument: str, value: int) -> int:
    if integer(argument, value, 1) % 2 == 0:
        raise ValueError(f"{argument}={value} must be odd, so that the neighborhood has a center")
    return value
