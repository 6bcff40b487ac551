"""Top-down and bottom-up path that merge by concatenation, the part that YOLOX's, RTMDet's and RT-DETR's necks share.

PANet's two paths (arXiv:1803.01534) with concatenation instead of sums (YOLOv4, arXiv:2004.10934).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops import checkpointing
from .base import PyramidNeck, check_halving


class ConcatPaths(PyramidNeck):
    """Base class: both paths, on layers that a subclass builds.

    The coarser map is resized to the size of the finer one, and on the way back, an extra row or column is cropped
    (where a backbone stage rounded down). ``gradient_checkpointing`` recomputes the maps inside the blocks.

    Attributes:
        reduce_convs: convolution of each coarser map before it is upsampled, in the order in which they run, as all.
        upsamples: upsampling of the coarser map, called with the size of the finer one.
        top_down_blocks: layers after the concatenations of the top-down path.
        downsample_convs: convolutions of stride 2 of each finer map.
        bottom_up_blocks: layers after the concatenations of the bottom-up path.
    """

    reduce_convs: nn.ModuleList
    upsamples: nn.ModuleList
    top_down_blocks: nn.ModuleList
    downsample_convs: nn.ModuleList
    bottom_up_blocks: nn.ModuleList

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward`, and return those at ``in_indices``.

        Raises:
            ValueError: also for a map that is not half as large as the previous one, rounded either way.
        """
        used = super().used(inputs)
        check_halving(used, type(self).__name__, rounded_down=True)
        return used

    def top_down(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Merge from the coarsest map down; maps ``B C H W``, high to low resolution, after `reduce_convs`."""
        merged = [maps[-1]]
        steps = zip(reversed(maps[:-1]), self.reduce_convs, self.upsamples, self.top_down_blocks, strict=True)
        for x, reduce, upsample, block in steps:
            merged[-1] = reduce(merged[-1])
            merged.append(self._join(block, upsample(merged[-1], (x.shape[-2], x.shape[-1])), x))
        return merged[::-1]

    def bottom_up(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Merge from the finest map up; maps ``B C H W``."""
        merged = [maps[0]]
        for x, downsample, block in zip(maps[1:], self.downsample_convs, self.bottom_up_blocks, strict=True):
            merged.append(self._join(block, downsample(merged[-1])[..., : x.shape[-2], : x.shape[-1]], x))
        return merged

    def _join(self, block: nn.Module, other: Tensor, own: Tensor) -> Tensor:
        return checkpointing.run(self._merge, block, other, own, checkpointed=self.gradient_checkpointing)

    def _merge(self, block: nn.Module, other: Tensor, own: Tensor) -> Tensor:
        return block(torch.cat((other, own), dim=1))
