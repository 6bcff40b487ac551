"""Parts of a BiFPN: max-pool, separable convolution, extra levels and merge; see ``bifpn.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import compiling
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, make_act, make_conv
from ..ops.pooling import max_pool2d

POOL_PADDINGS = ("same", "symmetric")
EPSILON = 1e-4  # of the fast normalized fusion


def pool_to_half(x: Tensor, size: tuple[int, int], padding: str = "same") -> Tensor:
    """Apply a 3x3 max-pool of stride 2 to ``B C H W``; ``size`` is half of ``H, W``, rounded either way.

    A side needs 0, 1 or 2 cells of padding with minus infinity: a single cell goes to the end (``"same"``, TensorFlow)
    or to the start (``"symmetric"``, PyTorch's ``padding=1``).

    Raises:
        ValueError: ``size`` is not half of ``H, W``.
    """
    short = [2 * want + 1 - have for want, have in zip(size, x.shape[-2:], strict=True)]
    start = [cells // 2 if padding == "same" else cells - cells // 2 for cells in short]
    if compiling():  # sizes may be symbols, which max_pool2d does not take as padding
        top, left = start
        x = F.pad(x, (left, short[1] - left, top, short[0] - top), value=-math.inf)
        return F.max_pool2d(x, 3, stride=2)
    if not all(0 <= cells <= 2 for cells in short):
        raise ValueError(
            f"BiFPN cannot pool {tuple(x.shape[-2:])} cells to {tuple(size)}: each map must be half as large as the "
            "previous one, rounded either way; pass the inputs from high to low resolution, without gaps"
        )
    # no padded copy: max_pool2d pads both ends equally, and ceil_mode adds the odd cell at the end
    return max_pool2d(x, (3, 3), (2, 2), (start[0], start[1]), ceil_mode=padding == "same")


class SeparableConv(ConvNormAct):
    """Depthwise 3x3 convolution without bias, then 1x1 convolution, then norm.

    Args:
        channels: channels of the map.
        norm: see `make_norm`.
        conv: factory of the 1x1 convolution, see `ConvNormAct`.
        depthwise: factory of the depthwise convolution, called with ``groups`` as well.
    """

    def __init__(
        self, channels: int, norm: str | NormFactory | None, conv: ConvFactory | None, depthwise: ConvFactory | None
    ) -> None:
        super().__init__(channels, channels, 1, norm=norm, conv=conv)
        build = make_conv(depthwise)
        self.depthwise = build(channels, channels, 3, stride=1, padding=1, bias=False, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        return super().forward(self.depthwise(x))


class PooledLevels(nn.Module):
    """Levels after the last input: a 1x1 convolution with norm, then one max-pool per level.

    ``lateral_conv`` is ``None`` if the last input already has the pyramid's channels.
    """

    def __init__(self, num_levels: int, lateral_conv: nn.Module | None, padding: str) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.lateral_conv = lateral_conv
        self.padding = padding

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the extra maps for ``x`` (``B C H W``), highest resolution first; each side is halved, rounding up."""
        maps = [x if self.lateral_conv is None else self.lateral_conv(x)]
        for _ in range(self.num_levels):
            height, width = maps[-1].shape[-2:]
            maps.append(pool_to_half(maps[-1], ((height + 1) // 2, (width + 1) // 2), self.padding))
        return maps[1:]


class BiFPNNode(nn.Module):
    """Weighted sum of resized and projected maps, then activation and convolution.

    Args:
        inputs: numbers of the maps to merge.
        steps: number of levels by which each map is coarser: 1 is upsampled, -1 max-pooled, 0 unchanged.
        lateral_convs: by number, the 1x1 convolution of each map whose channels differ from the pyramid's.
        output_conv: convolution after the activation.
        fusion: see `BiFPN`.
        act: see `make_act`.
        padding: see `pool_to_half`.
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
        """Return non-negative weights with the sum 1 (``"weighted"``: just below), or ``None`` for ``"sum"``."""
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
        for other in others:  # a weighted map is a new tensor, so adding in place is safe
            merged = merged + other if shares is None else merged.add_(other)
        return self.output_conv(merged if self.act is None else self.act(merged))

    def _fit(self, position: int, x: Tensor, weight: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Project, resize and weight one input; the weight is applied at the smaller size."""
        if self.names[position] in self.lateral_convs:
            x = self.lateral_convs[self.names[position]](x)
        if self.steps[position] < 0:
            x = pool_to_half(x, size, self.padding)
        if weight is not None:
            x = x * weight
        return F.interpolate(x, size=size, mode="nearest") if self.steps[position] > 0 else x
