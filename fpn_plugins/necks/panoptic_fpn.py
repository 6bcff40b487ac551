"""Panoptic FPN: Panoptic Feature Pyramid Networks (Kirillov et al., CVPR 2019, arXiv:1901.02446, sections 3.1, 3.3).

::

    p5 /32 --3x3, x2--3x3, x2--3x3, x2--+
    p4 /16 --3x3, x2--3x3, x2-----------+
    p3 /8  --3x3, x2--------------------+
    p2 /4  --3x3----------------------(sum)--> semantic map /4 --> the head's 1x1 predictor

Each 3x3 convolution is followed by a norm and ReLU; ``x2`` is bilinear. In both toolboxes this belongs to the semantic
head, which reads the pyramid: the adapters have a ``PanopticFPNHead`` built on `SemanticMerge`. `PanopticFPN` is the
pyramid and the semantic map in one module, for networks of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import boolean, integers, positive_int
from ..features import FeatureSpec, SemanticSpec, check_channels, check_in_channels
from ..keywords import KeywordChecked
from ..layers import ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, make_norm
from ..ops import checkpointing
from ..upsampling import make_upsample
from ..weights import accept_layouts, redirect_keys
from ..weights.maps.panoptic_fpn import panoptic_fpn, semantic_layouts
from .card import P6, NeckCard
from .fpn import FPN


class SemanticMerge(KeywordChecked, nn.Module):
    """Sum of a pyramid's maps, each brought to the finest resolution by convolutions and upsampling.

    Args:
        in_channels: channels of each map, high to low resolution.
        inner_channels: channels of the branches and of the result (paper: 128).
        num_upsamples: number of doublings, and of convolutions (at least one), of each map. ``None`` for 0, 1, 2, ...,
            which brings adjacent levels to the size of the finest one.
        norm: norm after each convolution: ``"GN"`` (paper), another name, a factory or ``None``; see `make_norm`.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; both toolboxes use ``"kaiming_normal"``.

    The peers upsample by a factor of 2, which requires sizes divisible by the last stride. This class upsamples to the
    size of the input map at that resolution (and doubles if there is none), which is the same for divisible sizes.

    State dict: ``branches.{i}.{k}.conv.*``, ``branches.{i}.{k}.norm.*``. The layouts of mmdet's ``PanopticFPNHead`` and
    Detectron2's ``SemSegFPNHead``, without their 1x1 predictors, load unchanged.

    Raises:
        ValueError: no channels, a negative entry of ``num_upsamples``, or not one entry per map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        inner_channels: int = 128,
        num_upsamples: Sequence[int] | None = None,
        norm: str | NormFactory | None = "GN",
        conv: ConvFactory | None = None,
        init: str | None = "kaiming_normal",
    ) -> None:
        super().__init__()
        self.in_channels = check_in_channels(in_channels)
        self.inner_channels = positive_int("inner_channels", inner_channels)
        check_layers(norm=norm, conv=conv, init=init)
        times = range(len(self.in_channels)) if num_upsamples is None else num_upsamples
        self.num_upsamples = integers("num_upsamples", times)
        if len(self.num_upsamples) != len(self.in_channels) or min(self.num_upsamples) < 0:
            raise ValueError(
                f"num_upsamples={list(self.num_upsamples)} must give the number of doublings, 0 or more, for each of "
                f"the {len(self.in_channels)} maps"
            )
        self.branches = nn.ModuleList(
            nn.ModuleList(
                ConvNormAct(inner_channels if k else channels, inner_channels, 3, norm=norm, act="relu", conv=conv)
                for k in range(max(1, times))
            )
            for channels, times in zip(self.in_channels, self.num_upsamples, strict=True)
        )
        self.upsample = make_upsample("bilinear", inner_channels)
        init_convs(self, init)
        accept_layouts(self, semantic_layouts, level_prefixes=("branches.",))

    @classmethod
    def to_stride(
        cls, specs: Sequence[FeatureSpec], stride: int, inner_channels: int = 128, **arguments: Any
    ) -> SemanticMerge:
        """Build the module that merges maps of ``specs``, high to low resolution, into one of ``stride`` input pixels.

        ``arguments`` are the other arguments of the class.

        Raises:
            ValueError: a stride that is not a power of two, or a map finer than ``stride``.
        """
        level = FeatureSpec(inner_channels, stride).level
        num_upsamples = [spec.level - level for spec in specs]
        return cls([spec.channels for spec in specs], inner_channels, num_upsamples, **arguments)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Merge maps ``B C H W``, high to low resolution, into one ``B inner_channels H W``.

        The result has the size of the map that is not upsampled, or else of the finest one after its doublings. Errors
        are those of `Neck.forward`.
        """
        check_channels(maps, self.in_channels, type(self).__name__)
        sizes = {times: (x.shape[-2], x.shape[-1]) for times, x in zip(self.num_upsamples, maps, strict=True)}
        lifted = [
            self._lift(x, branch, times, sizes)
            for x, branch, times in zip(maps, self.branches, self.num_upsamples, strict=True)
        ]
        return sum(lifted[1:], lifted[0])

    def _lift(self, x: Tensor, branch: Any, times: int, sizes: dict[int, tuple[int, int]]) -> Tensor:
        """Run one branch, ``B C h w`` to ``B inner_channels H W``; ``sizes`` is indexed by doublings left."""
        for conv in branch:
            x = conv(x)
            if times:
                times -= 1
                x = self.upsample(x, sizes.get(times, (2 * x.shape[-2], 2 * x.shape[-1])))
        return x


class PanopticFPN(KeywordChecked, nn.Module):
    """FPN and the semantic map merged from its levels: ``semantic, *pyramid = neck(maps)``.

    The semantic map comes first. It has the stride of the finest level, and its published spec is a `SemanticSpec`,
    named ``semantic`` where the levels are named ``p2``, ``p3``, ...; extra levels do not contribute to it.

    Arguments and errors are those of `FPN`, for the pyramid, and these:

    Args:
        inner_channels: channels of the semantic map, see `SemanticMerge`.
        semantic_norm: norm in the branches of the semantic map.
        gradient_checkpointing: keep only the inputs for backward and recompute the maps.

    State dict: ``fpn.*`` as in `FPN`, ``semantic_merge.*`` as in `SemanticMerge`. Keys of a plain FPN, in any layout
    that `FPN` loads, go to the pyramid (with ``strict=False``, because the semantic branch is not among them).
    """

    card = NeckCard(
        idea="FPN, whose levels are also brought to stride 4 and summed for dense prediction.",
        use_when="when one network predicts things and stuff, or for a cheap semantic branch beside a detector.",
        caveats="The semantic branch works at stride 4, where convolutions are expensive; without stuff, FPN suffices.",
        paper="Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollár: Panoptic Feature Pyramid Networks. CVPR "
        "2019, arXiv:1901.02446",
        reference="mmdet `models/seg_heads/panoptic_fpn_head.py`, detectron2 `modeling/meta_arch/semantic_seg.py`",
        topology="""
               backbone | merge               | output       | (3×3, ×2) repeated | sum
            5: C5       | M5 < 1×1: C5        | P5 < 3×3: M5 | S5 (3 × up) < P5   |
            4: C4       | M4 (+) < 1×1: C4 M5 | P4 < 3×3: M4 | S4 (2 × up) < P4   |
            3: C3       | M3 (+) < 1×1: C3 M4 | P3 < 3×3: M3 | S3 (1 × up) < P3   |
            2: C2       | M2 (+) < 1×1: C2 M3 | P2 < 3×3: M2 | S2 (3×3) < P2      | P (+ → S2) < S2 S3 S4 S5""",
        results=(
            "PQ 40.2: Panoptic FPN R50, 12 epochs (mmdet model zoo)",
            "PQ 39.4, box AP 37.6, mask AP 34.7: Panoptic FPN R50, 1x (Detectron2 model zoo)",
        ),
        arguments=P6,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        inner_channels: int = 128,
        semantic_norm: str | NormFactory | None = "GN",
        gradient_checkpointing: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        positive_int("inner_channels", inner_channels)
        make_norm(semantic_norm, inner_channels, "semantic_norm")
        self.fpn = FPN(in_channels, out_channels, **arguments)
        self.semantic_merge = SemanticMerge(
            [out_channels] * len(self.fpn.in_indices), inner_channels, norm=semantic_norm, conv=arguments.get("conv")
        )
        self.in_channels, self.in_indices = self.fpn.in_channels, self.fpn.in_indices
        self.read_indices = self.fpn.read_indices
        self.out_channels = out_channels
        redirect_keys(self, panoptic_fpn())

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the spec of the semantic map, then those of the pyramid; see `Neck.out_specs`."""
        pyramid = self.fpn.out_specs(in_specs)
        return (SemanticSpec(self.semantic_merge.inner_channels, pyramid[0].stride), *pyramid)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the semantic map ``B inner_channels H W`` and the pyramid; see `Neck.forward`."""
        return checkpointing.run(self._maps, inputs, checkpointed=self.gradient_checkpointing)

    def _maps(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        pyramid = self.fpn(inputs)
        return (self.semantic_merge(pyramid[: len(self.in_indices)]), *pyramid)
