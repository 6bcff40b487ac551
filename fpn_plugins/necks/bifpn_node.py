"""The parts of a BiFPN: its max-pool, its separable convolution, its extra levels and its merge; see ``bifpn.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, make_act, make_conv
from ..ops.pooling import max_pool2d

POOL_PADDINGS = ("same", "symmetric")
EPSILON = 1e-4  # of the fast normalised fusion


def max_pool_to(x: Tensor, size: tuple[int, int], padding: str = "same") -> Tensor:
    """3x3 max-pool of stride 2 from ``B C H W`` to ``size``, the half of ``H, W`` rounded either way.

    A side needs 0, 1 or 2 cells of padding, of minus infinity: a single one goes to the end (``"same"``, TensorFlow) or
    to the start (``"symmetric"``, PyTorch's ``padding=1``).

    Raises:
        ValueError: ``size`` is not the half.
    """
    short = [2 * want + 1 - have for want, have in zip(size, x.shape[-2:], strict=True)]
    start = [cells // 2 if padding == "same" else cells - cells // 2 for cells in short]
    if torch.compiler.is_compiling():  # sizes may be symbols, which max_pool2d does not take as padding
        top, left = start
        x = F.pad(x, (left, short[1] - left, top, short[0] - top), value=-math.inf)
        return F.max_pool2d(x, 3, stride=2)
    if not all(0 <= cells <= 2 for cells in short):
        raise ValueError(
            f"BiFPN cannot pool {tuple(x.shape[-2:])} cells to {tuple(size)}: each map has to be half as large "
            "as the one before, rounded either way; give the inputs from high to low resolution, without gaps"
        )
    # without a padded copy: pooling pads both ends alike, and ceil_mode is the odd cell at the end
    return max_pool2d(x, (3, 3), (2, 2), (start[0], start[1]), ceil_mode=padding == "same")


class SeparableConv(ConvNormAct):
    """Depthwise 3x3 convolution without a bias, then 1x1 convolution, then norm.

    Args:
        channels: channels of the map.
        norm: see `make_norm`.
        conv: factory of the 1x1 convolution, see `ConvNormAct`.
        depthwise: factory of the depthwise one, which is called with ``groups`` as well.
    """

    def __init__(
        self,
        channels: int,
        norm: str | NormFactory | None,
        conv: ConvFactory | None,
        depthwise: ConvFactory | None,
    ) -> None:
        super().__init__(channels, channels, 1, norm=norm, conv=conv)
        build = make_conv(depthwise)
        self.depthwise = build(channels, channels, 3, stride=1, padding=1, bias=False, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        return super().forward(self.depthwise(x))


class PooledLevels(nn.Module):
    """The levels above the last input: its 1x1 convolution and norm, then one max-pool per level.

    Without the convolution (``None``) where the channels are the pyramid's already.
    """

    def __init__(self, num_levels: int, lateral_conv: nn.Module | None, padding: str) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.lateral_conv = lateral_conv
        self.padding = padding

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the extra maps of ``x`` (``B C H W``), highest resolution first, each side half (rounded up)."""
        maps = [x if self.lateral_conv is None else self.lateral_conv(x)]
        for _ in range(self.num_levels):
            height, width = maps[-1].shape[-2:]
            maps.append(max_pool_to(maps[-1], ((height + 1) // 2, (width + 1) // 2), self.padding))
        return maps[1:]


class BiFPNNode(nn.Module):
    """One merge: bring the maps to one size and width, add them with learned weights, activation, convolution.

    Args:
        inputs: numbers of the maps that it reads.
        steps: for each, how many levels it is coarser: 1 is upsampled, -1 max-pooled, 0 taken as it is.
        lateral_convs: by number, the 1x1 convolution of those whose channels are not the pyramid's.
        output_conv: what follows the activation.
        fusion: see `BiFPN`.
        act: see `make_act`.
        padding: see `max_pool_to`.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        steps: Sequence[int],
        lateral_convs: Mapping[int, nn.Module | None],
        output_conv: nn.Module,
        fusion: str,
        act: str | ActFactory | None,
        padding: str,
    ) -> None:
        super().__init__()
        self.names = tuple(str(number) for number in inputs)
        self.steps = tuple(steps)
        self.fusion = fusion
        self.padding = padding
        self.edge_weights = None if fusion == "sum" else nn.Parameter(torch.ones(len(self.steps)))
        self.lateral_convs = nn.ModuleDict({str(number): conv for number, conv in lateral_convs.items() if conv})
        self.act = make_act(act)
        self.output_conv = output_conv

    def normalized_weights(self) -> Tensor | None:
        """Share of each input, none negative, with a sum of 1 (``"weighted"``: just below); ``None`` for ``"sum"``."""
        if self.edge_weights is None:
            return None
        if self.fusion == "softmax":
            return self.edge_weights.softmax(dim=0)
        weights = self.edge_weights.relu()
        return weights / (weights.sum() + EPSILON)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Merge ``maps`` (each ``B C_i h w``) into one of ``size``, ``B C H W``."""
        shares = self.normalized_weights()
        weights = [None] * len(maps) if shares is None else shares.unbind()
        merged, *others = (self._fit(k, x, w, size) for k, (x, w) in enumerate(zip(maps, weights, strict=True)))
        for other in others:  # a weighed map is new, so it may be added to in place
            merged = merged + other if shares is None else merged.add_(other)
        return self.output_conv(merged if self.act is None else self.act(merged))

    def _fit(self, position: int, x: Tensor, weight: Tensor | None, size: tuple[int, int]) -> Tensor:
        """One input at the node's size and width, weighed where it is smallest."""
        if self.names[position] in self.lateral_convs:
            x = self.lateral_convs[self.names[position]](x)
        if self.steps[position] < 0:
            x = max_pool_to(x, size, self.padding)
        if weight is not None:
            x = x * weight
        return F.interpolate(x, size=size, mode="nearest") if self.steps[position] > 0 else x
