"""What a feature pyramid is compared with: one map, and a pyramid without a top-down path.

::

    SingleScale                              SSDPyramid
    c5 /32 --1x1--3x3--> p5                  c5 /32 --1x1--3x3--> p5 --> extra levels
                                             c4 /16 --1x1--3x3--> p4
                                             c3 /8  --1x1--3x3--> p3

Sources: FPN (arXiv:1612.03144), figure 1 (b) and (c), table 1 rows (a), (b) and (d); SSD (arXiv:1512.02325). Both have
FPN's convolutions, so that what differs from `FPN` is the merging and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .fpn import FPN


class SSDPyramid(FPN):
    """Each map on its own: lateral 1x1 and output 3x3 convolution, no top-down path (FPN paper, table 1 (d)).

    The arguments are those of `FPN`; ``upsample_mode`` and ``fusion`` have no effect. State dict: that of `FPN` with a
    parameter-free upsampling, so an FPN's weights can be loaded, and compared with.
    """

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the laterals as they are."""
        return laterals


class SingleScale(FPN):
    """One map of the backbone: its lateral 1x1 and output 3x3 convolution, and extra levels if they are asked for.

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of the output map.
        in_indices: the position of the one map that is used; ``None`` is the last, C5 of C2..C5; ``(2,)`` is C4.
        **arguments: the others of `FPN`; ``upsample_mode`` and ``fusion`` have no effect.

    Heads see a single level: give them its stride, and anchors of all sizes on it.

    Raises:
        ValueError: more than one position, or one out of range.
        TypeError: an argument that `FPN` does not have.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        **arguments: Any,
    ) -> None:
        indices = (len(in_channels) - 1,) if in_indices is None else tuple(in_indices)
        if len(indices) != 1:
            raise ValueError(f"SingleScale uses one map, got in_indices={list(indices)}; name the position of one")
        super().__init__(in_channels, out_channels, in_indices=indices, **arguments)
