"""Baselines of a feature pyramid: a single map, a pyramid without a top-down path, and one without laterals.

::

    SingleScale                  SSDPyramid                        TopDownPyramid
    c5 /32 --1x1--3x3--> p5      c5 /32 --1x1--3x3--> p5           c5 /32 --1x1--> m5 --3x3--> p5
                                                                                   | x2
                                 c4 /16 --1x1--3x3--> p4           c4 /16 (size)   m4 --3x3--> p4
                                                                                   | x2
                                 c3 /8  --1x1--3x3--> p3           c3 /8  (size)   m3 --3x3--> p3

Extra levels follow p5. Sources: FPN (arXiv:1612.03144), figure 1 (b) and (c), table 1 rows (a), (b), (d) and (e); SSD
(arXiv:1512.02325). All have FPN's convolutions, so they differ from `FPN` only in the merging.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import integers
from ..features import check_in_channels
from .card import FPN_PAPER, P6, NeckCard
from .fpn import FPN


class SSDPyramid(FPN):
    """Independent levels: lateral 1x1 and output 3x3 convolution per map, no top-down path (table 1 (d)).

    Arguments and errors are those of `FPN`; a parameter-free ``fusion`` or ``upsample_mode`` has no effect.

    State dict: that of `FPN` with parameter-free upsampling, so an FPN's weights load, for comparison.

    Raises:
        ValueError: also a learned ``upsample_mode`` or ``fusion``, ``after_merge``, or ``in_top_down`` extra levels.
    """

    card = NeckCard(
        idea="FPN without its top-down path: each level by itself, as SSD (arXiv:1512.02325) uses its maps.",
        use_when="to measure what the top-down path is worth on your data: everything else is equal.",
        caveats="As a detector's neck: fine levels lack semantics. The FPN paper's table 1 (d) finds it far below FPN "
        "in recall of proposals.",
        paper=FPN_PAPER,
        reference="none; FPN's convolutions",
        topology="""
               backbone | lateral      | output
            6:          |              | P6 < P5
            5: C5       | M5 < 1×1: C5 | P5 < 3×3: M5
            4: C4       | M4 < 1×1: C4 | P4 < 3×3: M4
            3: C3       | M3 < 1×1: C3 | P3 < 3×3: M3
            2: C2       | M2 < 1×1: C2 | P2 < 3×3: M2""",
        arguments=P6,
    )

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, **arguments: Any) -> None:
        super().__init__(in_channels, out_channels, **arguments)
        name, remedy = type(self).__name__, "in_top_down=True; leave in_top_down out"
        if self._extra_laterals:
            raise ValueError(f"{name} has no top-down path for extra_levels with {remedy}")
        for argument, layers in (("upsample_mode", self.upsamples), ("fusion", self.fusions)):
            if any(True for _ in layers.parameters()):
                raise ValueError(f"{name} has no top-down path for a learned {argument}; leave {argument} out")
        _check_no_layer(self)

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the laterals unchanged."""
        return laterals


class TopDownPyramid(FPN):
    """FPN without laterals: the coarsest map alone, upsampled from level to level (table 1 (e)).

    Only the last used map has a lateral 1x1 convolution. Each finer level is the level above it, upsampled to the size
    of the backbone's map, whose values are not read; every level has a 3x3 output convolution. Outputs and gradients
    are those of an `FPN` whose finer laterals are zero. Arguments and errors are those of `FPN`; a parameter-free
    ``fusion`` has no effect.

    State dict: that of `FPN` without the finer laterals, with FPN's level numbers. An FPN's weights have extra keys and
    are therefore a ``ValueError``, unless ``FPN_PLUGINS_PARTIAL_LOAD=1`` asks for those that fit.

    Raises:
        ValueError: also a learned ``fusion``, ``after_merge``, or ``in_top_down`` extra levels, because the path would
            begin above the only lateral.
    """

    card = NeckCard(
        idea="FPN without laterals: the coarsest map alone, upsampled from level to level.",
        use_when="to measure what the laterals are worth on your data: everything else is equal.",
        caveats="As a detector's neck: fine levels have semantics but lack the locations that subsampling lost. The "
        "FPN paper's table 1 (e) finds it far below FPN in recall of proposals.",
        paper=FPN_PAPER,
        reference="none; FPN's convolutions",
        topology="""
               backbone | top-down     | output
            6:          |              | P6 < P5
            5: C5       | M5 < 1×1: C5 | P5 < 3×3: M5
            4: C4       | M4 < M5      | P4 < 3×3: M4
            3: C3       | M3 < M4      | P3 < 3×3: M3
            2: C2       | M2 < M3      | P2 < 3×3: M2""",
        arguments=P6,
    )

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, **arguments: Any) -> None:
        super().__init__(in_channels, out_channels, **arguments)
        if self._extra_laterals:
            raise ValueError(
                "TopDownPyramid has no lateral except its last input's, so extra_levels cannot have in_top_down=True; "
                "leave in_top_down out"
            )
        if len(self.fusions):
            raise ValueError("TopDownPyramid has no laterals for a learned fusion; leave fusion out")
        _check_no_layer(self)
        self.read_indices = self.in_indices[-1:]
        # built and dropped, so that a seed gives the same weights as for FPN
        for index in range(len(self.lateral_convs) - 1):
            self.lateral_convs[index] = nn.Identity()

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Upsample the last map to the size of each other map; shapes and order as in `FPN.top_down`."""
        levels = [laterals[-1]]
        for step, upsample in enumerate(self.upsamples):
            finer = laterals[-2 - step]
            levels.append(upsample(levels[-1], (finer.shape[-2], finer.shape[-1])))
        return levels[::-1]


class SingleScale(SSDPyramid):
    """One map of the backbone: lateral 1x1 and output 3x3 convolution, and optional extra levels.

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of the output map.
        in_indices: position of the map to use; ``None`` for the last, C5 of C2..C5; ``(2,)`` is C4.
        **arguments: the other arguments of `FPN`; ``fusion`` and ``upsample_mode`` have no effect.

    Heads see a single level: give them its stride, and anchors of all sizes on it.

    Raises:
        ValueError: also several positions, or ``in_top_down`` extra levels.
    """

    card = NeckCard(
        idea="One map of the backbone, with FPN's convolutions.",
        use_when="as the single-scale baseline, and where all objects have similar sizes.",
        caveats="Anchors of all sizes share one map; small objects are lost at stride 32. Not the C4 detector of the "
        "literature, whose head runs the backbone's last stage on each region.",
        paper=FPN_PAPER,
        reference="none; FPN's convolutions",
        topology="""
               backbone | lateral      | output
            5: C5       | M5 < 1×1: C5 | P5 < 3×3: M5
            4: C4       |              |
            3: C3       |              |
            2: C2       |              |""",
        results=(
            "box AP 35.7: another architecture, Faster R-CNN R50-C4, 1x (Detectron2 model zoo)",
            "box AP 37.3: another architecture, Faster R-CNN R50-DC5, 1x (Detectron2 model zoo)",
        ),
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        **arguments: Any,
    ) -> None:
        last = len(check_in_channels(in_channels)) - 1
        indices = (last,) if in_indices is None else integers("in_indices", in_indices)
        if len(indices) != 1:
            raise ValueError(f"SingleScale uses one map, got in_indices={list(indices)}; name the position of one")
        super().__init__(in_channels, out_channels, in_indices=indices, **arguments)


def _check_no_layer(neck: FPN) -> None:
    if not isinstance(neck.after_merge, nn.Identity):
        raise ValueError(f"{type(neck).__name__} has no merges for a layer after_merge; leave after_merge out")
