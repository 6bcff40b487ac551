"""Parts of a DyHead: deformable convolutions of shared offsets, and spatial, scale and task attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..initialization import init_convs
from ..layers import NormFactory, make_norm
from ..ops.deformable import deform_conv2d
from ..ops.memory_format import in_format_of

TAPS = 9  # of a 3x3 kernel
STD = 0.01  # of the initial weights of the convolutions that are not deformable

group_norm: NormFactory = partial(nn.GroupNorm, 16)


def as_smaller(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Read the memory of ``x`` (``B C H W``) from its start as a map ``B C h w`` with ``(h, w) = size``, no larger."""
    cells = torch.arange(x.shape[1] * size[0] * size[1], device=x.device)
    return x.flatten(1).index_select(1, cells).unflatten(1, (x.shape[1], size[0], size[1]))


def hard_sigmoid(x: Tensor) -> Tensor:
    """Compute ``(x + 3) / 6`` between 0 and 1; PyTorch's own function has a sixth of single precision."""
    return ((x + 3) / 6).clamp(0, 1)


class SharedOffsetConv(nn.Module):
    """Deformable 3x3 convolution (v2) by offsets that are given, then norm.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        stride: step in cells.
        norm: see `make_norm`; without a norm the convolution has a bias.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, norm: str | NormFactory | None = group_norm
    ) -> None:
        super().__init__()
        bound = (in_channels * TAPS) ** -0.5
        self.stride = (stride, stride)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3).uniform_(-bound, bound))
        self.norm = make_norm(norm, out_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if self.norm is None else None

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Map ``B C_in H W`` to the size of ``offset`` (``B 18 h w``) and ``mask`` (``B 9 h w``)."""
        x = deform_conv2d(x, offset, self.weight, self.bias, self.stride, (1, 1), mask=mask)
        return x if self.norm is None else self.norm(x)


class DynamicReLU(nn.Module):
    """Maximum of two linear functions of each channel, whose coefficients depend on the image.

    Args:
        channels: channels of the map.
        ratio: divisor of the channels between the two convolutions.
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.conv1 = _kaiming(nn.Conv2d(channels, channels // ratio, 1))
        self.conv2 = _kaiming(nn.Conv2d(channels // ratio, 4 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        hidden = self.conv1(x.mean((-2, -1), keepdim=True)).relu()
        slope1, shift1, slope2, shift2 = (hard_sigmoid(self.conv2(hidden)) - 0.5).chunk(4, dim=1)
        return torch.maximum(x * (2 * slope1 + 1) + shift1, x * (2 * slope2) + shift2)


def _kaiming(conv: nn.Conv2d) -> nn.Conv2d:
    """Draw weights as mmcv does, so that one seed gives mmdet's network; `DyHeadBlock` draws them again."""
    init_convs(conv, "kaiming_normal")
    return conv


class DyHeadBlock(nn.Module):
    """Spatial, scale and task attention, once.

    Args:
        in_channels: channels of the input maps.
        out_channels: channels of the output maps.
        zero_init_offset: whether all taps start at their usual places.
        norm: norm after each deformable convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        zero_init_offset: bool = True,
        norm: str | NormFactory | None = group_norm,
    ) -> None:
        super().__init__()
        self.coarser_conv = SharedOffsetConv(in_channels, out_channels, norm=norm)
        self.same_conv = SharedOffsetConv(in_channels, out_channels, norm=norm)
        self.finer_conv = SharedOffsetConv(in_channels, out_channels, 2, norm)
        self.offset_conv = nn.Conv2d(in_channels, 3 * TAPS, 3, padding=1)
        self.scale_attention = nn.Conv2d(out_channels, 1, 1)
        self.task_attention = DynamicReLU(out_channels)
        for layer in (self.offset_conv, self.scale_attention, self.task_attention.conv1, self.task_attention.conv2):
            nn.init.normal_(layer.weight, std=STD)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if zero_init_offset:
            nn.init.zeros_(self.offset_conv.weight)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map levels ``B C_in H W`` to levels ``B C_out H W``, high to low resolution."""
        return [self._level(maps, level) for level in range(len(maps))]

    def _level(self, maps: Sequence[Tensor], level: int) -> Tensor:
        x = maps[level]
        offset, mask = self.offset_conv(x).split((2 * TAPS, TAPS), dim=1)
        mask = mask.sigmoid()
        merged, number = self._scaled(self.same_conv(x, offset, mask)), 1
        if level > 0:
            merged, number = merged + self._scaled(self.finer_conv(maps[level - 1], offset, mask)), number + 1
        if level < len(maps) - 1:
            size = (maps[level + 1].shape[-2], maps[level + 1].shape[-1])
            coarser = self.coarser_conv(maps[level + 1], as_smaller(offset, size), as_smaller(mask, size))
            coarser = F.interpolate(coarser, size=x.shape[-2:], mode="bilinear", align_corners=True)
            merged, number = merged + self._scaled(coarser), number + 1
        return in_format_of(self.task_attention(merged / number), x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x * hard_sigmoid(self.scale_attention(x.mean((-2, -1), keepdim=True)).relu())
