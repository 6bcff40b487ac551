"""DyHead: Dynamic Head, Unifying Object Detection Heads with Attentions (Dai et al., CVPR 2021, arXiv:2106.08322).

::

    next level (coarser)   --deformable 3x3---------------x2--> * s --+
    level                  --deformable 3x3-------------------> * s --+--mean--> task attention --> level
    previous level (finer) --deformable 3x3, stride 2---------> * s --+

    s      scale attention: hard sigmoid of ReLU of a 1x1 convolution of the map's mean, one number per image
    tasks  dynamic ReLU (arXiv:2003.10027): max(a1 x + b1, a2 x + b2), coefficients from the map's mean

All three convolutions of a level move their taps by the offsets that one convolution predicts from the level itself.
The block runs ``num_blocks`` times. It takes the maps of another neck and returns maps of their sizes.

The coarser map has fewer cells than the offsets. The authors' code, mmdet's and all published weights read the offsets'
memory from its start as if it were of the smaller size; so does this class, see `as_smaller`.

Deliberate differences from mmdet: any map sizes at which each map is half the previous one, rounded up. Where a tap is
exactly one cell outside the map, as at offsets of 0, torchvision's operator and mmcv's take other sides of the
derivative by the offset, which only the first iteration sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..checks import boolean, positive_int
from ..features import FeatureSpec, check_channels, check_in_channels, check_specs
from ..keywords import KeywordChecked
from ..layers import NormFactory, check_layers
from ..ops import checkpointing
from ..ops.distributed import watch_first_step
from ..weights import accept_layouts
from ..weights.maps import dyhead
from .base import check_halving
from .card import NeckCard
from .dyhead_block import DyHeadBlock, group_norm


class DyHead(KeywordChecked, nn.Module):
    """Attention over levels, places and channels, repeated; it follows another neck.

    Args:
        in_channels: channels of each input map, all equal.
        out_channels: channels of every output map; ``None`` takes ``in_channels[0]``. The default norm needs a
            multiple of 16.
        num_blocks: number of blocks, each with its own weights.
        zero_init_offset: whether the deformable convolutions start with all taps at their usual places.
        norm: norm after each deformable convolution; GroupNorm of 16 groups by default, see `make_norm`.
        gradient_checkpointing: keep only the maps between the blocks for backward and recompute the others.

    State dict: see ``weights/maps/dyhead.py``. mmdet's layout loads unchanged.

    Raises:
        ValueError: one map, channels that differ, or channels that the norm does not take.
    """

    card = NeckCard(
        idea="After another neck: attention over levels, deformable convolutions over places and a dynamic ReLU over "
        "channels, repeated.",
        use_when="with a dense head of few layers (ATSS without its stacked convolutions), when accuracy matters more "
        "than time.",
        caveats="Deformable convolutions are slow without a GPU, and slow to train everywhere. Its convolutions are "
        "meant to replace those of the head, not to precede them.",
        paper="Xiyang Dai, Yinpeng Chen, Bin Xiao, Dongdong Chen, Mengchen Liu, Lu Yuan, Lei Zhang: Dynamic Head: "
        "Unifying Object Detection Heads with Attentions. CVPR 2021, arXiv:2106.08322",
        reference="mmdet `models/necks/dyhead.py`, microsoft/DynamicHead `dyhead/dyhead.py`",
        topology="""
               neck    | deformable, scaled, summed | output
            7: C7 (P7) | M7 (+) < C7 C6             | P7 < dynamic ReLU: M7
            6: C6 (P6) | M6 (+) < C6 C5 C7          | P6 < dynamic ReLU: M6
            5: C5 (P5) | M5 (+) < C5 C4 C6          | P5 < dynamic ReLU: M5
            4: C4 (P4) | M4 (+) < C4 C3 C5          | P4 < dynamic ReLU: M4
            3: C3 (P3) | M3 (+) < C3 C4             | P3 < dynamic ReLU: M3""",
        results=("box AP 43.3: ATSS R50, 12 epochs (mmdet model zoo)",),
        in_specs=tuple(FeatureSpec(256, 8 << k) for k in range(5)),
        follows="FPN",
        example_specs=tuple(FeatureSpec(32, 4 << k) for k in range(3)),
        example_arguments={"out_channels": 32, "num_blocks": 2},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | None = None,
        num_blocks: int = 6,
        zero_init_offset: bool = True,
        norm: str | NormFactory | None = group_norm,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_in_channels(in_channels)
        self.in_indices = tuple(range(len(self.in_channels)))
        self.out_channels = _check_channels(self.in_channels, out_channels, norm)
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        boolean("zero_init_offset", zero_init_offset)
        check_layers(norm=norm)
        widths = [self.in_channels[0]] + [self.out_channels] * positive_int("num_blocks", num_blocks)
        self.blocks = nn.ModuleList(
            DyHeadBlock(before, after, zero_init_offset, norm)
            for before, after in zip(widths, widths[1:], strict=False)
        )
        accept_layouts(self, (dyhead.mmdet(),), level_prefixes=("blocks.",))

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the strides of the inputs with ``out_channels``; see `Neck.out_specs`."""
        check_specs(in_specs, self.in_channels, type(self).__name__)
        return tuple(FeatureSpec(self.out_channels, spec.stride) for spec in in_specs)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map levels ``B C_in H W`` to levels ``B C_out H W`` of the same sizes; see `Neck.forward`."""
        check_channels(inputs, self._expected(inputs), type(self).__name__)
        check_halving(inputs, type(self).__name__)
        watch_first_step(self)
        maps = list(inputs)
        for block in self.blocks:
            maps = checkpointing.run(block, maps, checkpointed=self.gradient_checkpointing)
        return tuple(maps)

    def _expected(self, inputs: Sequence[Tensor]) -> Sequence[int]:
        """Return the channels of each map that `forward` takes."""
        return self.in_channels


def _check_channels(in_channels: Sequence[int], out_channels: int | None, norm: str | NormFactory | None) -> int:
    if len(in_channels) < 2:
        raise ValueError(
            f"in_channels={list(in_channels)}: DyHead joins each level with its neighbors; pass two or more"
        )
    if len(set(in_channels)) != 1:
        raise ValueError(
            f"in_channels={list(in_channels)} must be equal for all maps: DyHead follows another neck, such as FPN"
        )
    wanted = in_channels[0] if out_channels is None else positive_int("out_channels", out_channels)
    if norm is group_norm and wanted % 16 or wanted < 4:
        raise ValueError(f"out_channels={wanted} must be a multiple of 16, or at least 4 with another norm=")
    return wanted
