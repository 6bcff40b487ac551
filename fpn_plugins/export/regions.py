"""Sample the maps of a pyramid inside boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..extras import needed_for
from .selection import positions


@dataclass(frozen=True)
class LevelRule:
    """Choice of the map that a box is sampled from: ``floor(level + log2(sqrt(area) / size + epsilon)) - lowest``.

    Attributes:
        level: level of a box of side ``size``.
        size: side in pixels.
        epsilon: keeps the logarithm of an empty box finite.
        lowest: level of the first map.
    """

    level: int
    size: float
    epsilon: float
    lowest: int = 0

    def indices(self, boxes: Tensor, num_levels: int) -> Tensor:
        """Return the index of the map of each box ``N 4``."""
        sides = boxes[:, 2:] - boxes[:, :2]
        scales = (sides[:, 0] * sides[:, 1]).sqrt() / self.size
        levels = (self.level + (scales + self.epsilon).log2()).floor() - self.lowest
        return levels.clamp(0, num_levels - 1).to(torch.int64)


class RegionPooler(nn.Module):
    """RoIAlign of each box on the map that fits its size.

    Args:
        strides: pixels per cell of each map.
        size: height and width of the result, in cells.
        sampling_ratio: samples per cell and side; 0 adapts them to the box.
        aligned: whether coordinates are shifted by half a pixel.
        rule: choice of the map.
        levels: index in the pyramid of each map.
    """

    def __init__(
        self,
        strides: Sequence[float],
        size: tuple[int, int],
        sampling_ratio: int,
        aligned: bool,
        rule: LevelRule,
        levels: Sequence[int],
    ) -> None:
        super().__init__()
        self.scales, self.size = tuple(1 / stride for stride in strides), size
        self.sampling_ratio, self.aligned = max(sampling_ratio, 0), aligned
        self.rule, self.levels = rule, tuple(levels)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """Sample the boxes ``N 4`` of ``images`` (``N``) from a pyramid: ``N C h w``."""
        regions = torch.cat([images[:, None].to(boxes.dtype), boxes], 1)
        if len(self.levels) == 1:
            return self._sample(maps[self.levels[0]], regions, 0)
        chosen = self.rule.indices(boxes, len(self.levels))
        members = [positions(chosen == index) for index in range(len(self.levels))]
        sampled = torch.cat([self._sample(maps[level], regions[members[i]], i) for i, level in enumerate(self.levels)])
        order = torch.cat(members)
        places = torch.zeros_like(chosen).scatter(0, order, torch.arange(order.shape[0], device=order.device))
        return sampled[places]

    def _sample(self, level_map: Tensor, regions: Tensor, index: int) -> Tensor:
        with needed_for("exportable detectors"):
            import torchvision  # noqa: F401  (registers the operator)

        return torch.ops.torchvision.roi_align(
            level_map, regions, self.scales[index], *self.size, self.sampling_ratio, self.aligned
        )
