"""What a feature pyramid is compared with: one map, a pyramid without a top-down path, and one without laterals.

::

    SingleScale                  SSDPyramid                        TopDownPyramid
    c5 /32 --1x1--3x3--> p5      c5 /32 --1x1--3x3--> p5           c5 /32 --1x1--> m5 --3x3--> p5
                                                                                   | x2
                                 c4 /16 --1x1--3x3--> p4           c4 /16 (size)   m4 --3x3--> p4
                                                                                   | x2
                                 c3 /8  --1x1--3x3--> p3           c3 /8  (size)   m3 --3x3--> p3

Extra levels follow p5. Sources: FPN (arXiv:1612.03144), figure 1 (b) and (c), table 1 rows (a), (b), (d) and (e); SSD
(arXiv:1512.02325). All have FPN's convolutions, so that what differs from `FPN` is the merging and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .fpn import FPN


class SSDPyramid(FPN):
    """Each map on its own: lateral 1x1 and output 3x3 convolution, no top-down path (FPN paper, table 1 (d)).

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of every output map.
        **arguments: the others of `FPN`; ``fusion`` and a parameter-free ``upsample_mode`` have no effect.

    State dict: that of `FPN` with a parameter-free upsampling, so an FPN's weights can be loaded, and compared with.

    Raises:
        ValueError: an argument outside of the above, a learned ``upsample_mode``, or extra levels ``in_top_down``.
        TypeError: an argument that `FPN` does not have.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, **arguments: Any) -> None:
        super().__init__(in_channels, out_channels, **arguments)
        _check_no_top_down(self)

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the laterals as they are."""
        return laterals


class TopDownPyramid(FPN):
    """The coarsest map alone, upsampled from level to level: FPN without laterals (FPN paper, table 1 (e)).

    The last used map has its lateral 1x1 convolution. Each finer level is the one above it, upsampled to the size of
    the backbone's map, of which nothing else is read; every level has its 3x3 output convolution. Outputs and gradients
    are those of an `FPN` whose finer laterals are zero. Norms that a backbone has behind its finer maps (`Swin`) get no
    gradient, for which distributed training wants ``find_unused_parameters``.

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of every output map.
        **arguments: the others of `FPN`; ``fusion`` has no effect. Extra levels cannot be ``in_top_down``: the path
            would begin above the one lateral.

    State dict: that of `FPN` without the finer laterals, the numbers of the levels as they are there. An FPN's weights
    have keys too many, so they are a ``ValueError``, unless ``FPN_PLUGINS_PARTIAL_LOAD=1`` asks for those that fit.

    Raises:
        ValueError: an argument outside of the above.
        TypeError: an argument that `FPN` does not have.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, **arguments: Any) -> None:
        super().__init__(in_channels, out_channels, **arguments)
        if self._extra_laterals:
            raise ValueError(
                "TopDownPyramid has no laterals but that of its last input, so extra_levels with in_top_down=True do "
                "not fit; leave in_top_down out"
            )
        # built and dropped, so that a seed gives the weights that it gives an FPN
        for index in range(len(self.lateral_convs) - 1):
            self.lateral_convs[index] = nn.Identity()

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Upsample the last map to the size of each of the others; high to low resolution, as `FPN.top_down`."""
        levels = [laterals[-1]]
        for step, upsample in enumerate(self.upsamples):
            finer = laterals[-2 - step]
            levels.append(upsample(levels[-1], (finer.shape[-2], finer.shape[-1])))
        return levels[::-1]


class SingleScale(FPN):
    """One map of the backbone: its lateral 1x1 and output 3x3 convolution, and extra levels if they are asked for.

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of the output map.
        in_indices: the position of the one map that is used; ``None`` is the last, C5 of C2..C5; ``(2,)`` is C4.
        **arguments: the others of `FPN`; ``fusion`` and ``upsample_mode`` have no effect.

    Heads see a single level: give them its stride, and anchors of all sizes on it.

    Raises:
        ValueError: more than one position, or one out of range, or extra levels ``in_top_down``.
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
        _check_no_top_down(self)


def _check_no_top_down(neck: FPN) -> None:
    name = type(neck).__name__
    if neck._extra_laterals:
        raise ValueError(f"{name} has no top-down path for extra_levels with in_top_down=True; leave in_top_down out")
    if any(True for _ in neck.upsamples.parameters()):
        raise ValueError(f"{name} has no top-down path for a learned upsample_mode to serve; leave upsample_mode out")
