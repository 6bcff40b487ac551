"""DySample: Learning to Upsample by Learning to Sample (Liu et al., ICCV 2023, arXiv:2308.15085, section 3).

Reference code: https://github.com/tiny-smart/dysample (MIT), ``dysample.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import boolean, divisor, one_of
from ..ops.cropping import fit
from ..ops.memory_format import is_channels_last
from ..ops.sampling import sample_at_offsets

STYLES = ("lp", "pl")


class DySample(nn.Module):
    """Learned x2 upsampling by sampling: each new cell is read between coarse cells, at a predicted place.

    A 1x1 convolution predicts the offsets to the places of bilinear upsampling, which it equals for zero offsets. The
    result is cropped or padded by `fit`. Matches the authors' module, including its parameter names and initialization;
    its files load (their buffer ``init_pos`` is a constant and is dropped).

    Args:
        channels: channels of the map.
        style: ``"lp"`` predicts the offsets of the four new cells from their coarse cell ("linear, then pixel
            shuffle"), ``"pl"`` rearranges the map into new cells first ("pixel shuffle, then linear"), with a quarter
            of the parameters.
        groups: number of channel groups, each with its own places.
        dyscope: scale the offsets by a predicted factor of 0 to 0.5 instead of by 0.25.

    Raises:
        ValueError: an unknown ``style``, ``groups`` that do not divide the channels, or with ``"pl"`` channels that 4
            does not divide.
    """

    def __init__(self, channels: int, style: str = "lp", groups: int = 4, dyscope: bool = False) -> None:
        super().__init__()
        self.style = one_of("style", style, STYLES)
        self.groups = divisor("groups", groups, channels, "channels")
        if style == "pl" and channels % 4:
            raise ValueError(f"style='pl' needs channels that 4 divides, got {channels}; choose style='lp'")
        read, predicted = (channels // 4, 2 * groups) if style == "pl" else (channels, 8 * groups)
        self.offset = nn.Conv2d(read, predicted, 1)
        self.scope = nn.Conv2d(read, predicted, 1, bias=False) if boolean("dyscope", dyscope) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the authors' initial weights: nearly zero offsets, and a factor of 0.25."""
        nn.init.normal_(self.offset.weight, std=0.001)
        if self.offset.bias is not None:
            nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most one cell beyond ``2 h, 2 w``."""
        read = F.pixel_shuffle(x, 2) if self.style == "pl" else x
        offsets = self.offset(read)
        offsets = offsets * 0.25 if self.scope is None else offsets * self.scope(read).sigmoid() * 0.5
        if self.style == "lp":
            offsets = F.pixel_shuffle(offsets, 2)
        doubled = fit(sample_at_offsets(x, offsets), size)
        return doubled.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else doubled

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        state_dict.pop(f"{prefix}init_pos", None)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
