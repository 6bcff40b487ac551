"""FPN: Feature Pyramid Networks for Object Detection (Lin et al., CVPR 2017, arXiv:1612.03144, section 3).

::

    c5 /32 --1x1--> m5 ------------3x3--> p5 --> extra levels p6, p7
                    | x2
    c4 /16 --1x1-->(+)= m4 --------3x3--> p4
                    | x2
    c3 /8  --1x1-->(+)= m3 --------3x3--> p3
                    | x2
    c2 /4  --1x1-->(+)= m2 --------3x3--> p2

The reference implementations agree on sizes divisible by the last stride. On other sizes, Detectron2 raises an error,
while this class upsamples to the size of the finer map, like mmdet and torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import boolean, one_of, shown
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..upsampling import UpsampleMode, check_upsample, make_upsample
from ..weights import accept_layouts
from ..weights.maps.fpn import FPNLayouts
from .base import ListNeck
from .card import FPN_PAPER, P6, NeckCard, NeckVariant
from .drop_block import LayerFactory, make_after_merge
from .extra_levels import ExtraLevels, as_extra_levels
from .freq_fusion import FreqFusion

# values of ``fusion`` -> what they do, for the docs
FUSIONS = {
    "sum": "The paper's: the upsampled coarser map is added.",
    "avg": "Half the sum.",
    "freqfusion": "Predicted filters smooth the coarser map, move it to boundaries, and sharpen the finer one "
    "(arXiv:2408.12879).",
}
LEARNED = "freqfusion"
FPN_VARIANTS = {
    "CARAFE": NeckVariant(
        {"upsample_mode": "carafe"},
        "where gathering 25 cells per pixel is affordable.",
        ("box AP 38.6 (FPN: 37.4): Faster R-CNN R50, 12 epochs (mmdet model zoo)",),
    ),
    "DySample": NeckVariant(
        {"upsample_mode": "dysample"},
        "as the cheapest learned upsampling.",
        (
            "box AP 38.7 (FPN: 37.5): Faster R-CNN R50, 12 epochs (its authors)",
            "box AP 39.6 (FPN: 38.3): Mask R-CNN R50, 12 epochs (its authors)",
            "PQ 41.5 (FPN: 40.2): Panoptic FPN R50, 12 epochs (its authors)",
        ),
    ),
    "FreqFusion": NeckVariant(
        {"fusion": "freqfusion"},
        "for crowded scenes and exact boundaries, where memory in training is at hand.",
        (
            "box AP 39.4 (FPN: 37.5): Faster R-CNN R50, 12 epochs (its authors)",
            "box AP 40.0 (FPN: 38.3): Mask R-CNN R50, 12 epochs (its authors)",
            "PQ 42.7 (FPN: 40.2): Panoptic FPN R50, 12 epochs (its authors)",
        ),
    ),
}


def fuse(lateral: Tensor, up: Tensor, fusion: str, in_place: bool = False) -> Tensor:
    """Merge a lateral with the upsampled coarser map (paper, figure 3); all maps are ``B C H W``.

    Args:
        lateral: finer map after its 1x1 convolution.
        up: merged coarser map, upsampled to the size of ``lateral``.
        fusion: ``"sum"`` or ``"avg"`` (half the sum).
        in_place: overwrite ``lateral``, whose old values must no longer be needed.
    """
    merged = lateral.add_(up) if in_place else lateral + up
    if fusion == "avg":
        merged = merged.mul_(0.5) if in_place else merged * 0.5
    return merged


class FPN(ListNeck):
    """Feature pyramid network over any number of backbone maps.

    Args:
        in_channels: channels of each input map, high to low resolution
            (``[s.channels for s in backbone.feature_specs]``).
        out_channels: channels of every output map (paper: 256).
        in_indices: see `PyramidNeck`; ``(1, 2, 3)`` of C2..C5 gives P3..P5.
        extra_levels: levels after the last one, as `ExtraLevels` or a mapping of its arguments; ``None`` for none.
        upsample_mode: ``"nearest"`` (paper), ``"bilinear"``, or learned: ``"deconv"``, ``"pixel_shuffle"``,
            ``"carafe"``, ``"dysample"``; with arguments ``{"type": "carafe", "kernel_size": 3}``; or a function
            ``(x, size) -> x``. See `make_upsample`.
        fusion: ``"sum"`` (paper), ``"avg"``, or the learned ``"freqfusion"``, which upsamples itself; with arguments
            of its class ``{"type": "freqfusion", "compressed_channels": 32}``, see `FreqFusion`.
        norm: norm after each convolution: ``None`` (paper), ``"BN"``, ``"GN"``, ``"LN"``, ``"SyncBN"`` or a factory.
        norm_on_lateral: whether the 1x1 convolutions have the norm, too.
        act: activation after each convolution; ``None`` as in the paper.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: ``"caffe2_xavier"`` (Detectron2, torchvision), ``"xavier_uniform"`` (mmdet after ``init_weights``),
            ``"kaiming_normal"`` (mmdet before it), or ``None`` for PyTorch's own; see `init_convs`. Learned upsampling
            has its own.
        gradient_checkpointing: keep only the inputs for backward, which the backbone keeps anyway, and recompute the
            maps between them and the outputs.
        after_merge: layer that follows each merge, shared by all of them: ``{"type": "drop_block", "drop_prob": 0.3}``
            (see `DropBlock`), a factory ``() -> Module`` of a layer that keeps the shape ``B out_channels H W``, or
            ``None`` (paper).

    State dict: ``lateral_convs.{i}``, ``output_convs.{i}``, ``extra_levels.convs.{k}``, each with ``conv.*`` and
    ``norm.*``, ``i`` counting from the highest resolution; ``upsamples.{j}`` and ``fusions.{j}``, ``j`` counting the
    steps of the top-down path; ``after_merge.*`` if that layer has weights. The layouts of mmdet, Detectron2 and
    torchvision load unchanged; one that fits only in part is a ``ValueError`` that lists the keys.

    ``torch.jit.script`` compiles a form that takes and returns lists of maps and does not check them.

    Raises:
        ValueError: an argument outside the values above.
    """

    card = NeckCard(
        idea="A top-down path carries the semantics of coarse maps to fine ones; each level adds its own backbone map.",
        use_when="first, always: every other neck is compared with it, and each toolbox has detectors trained with it.",
        caveats="P2's 3x3 convolution costs the most: without small objects, start at P3 (`in_indices=(1, 2, 3)`).",
        paper=FPN_PAPER,
        reference="detectron2 `modeling/backbone/fpn.py`, mmdet `models/necks/fpn.py`, torchvision "
        "`ops/feature_pyramid_network.py`",
        topology="""
               backbone | merge               | output
            6:          |                     | P6 < P5
            5: C5       | M5 < 1×1: C5        | P5 < 3×3: M5
            4: C4       | M4 (+) < 1×1: C4 M5 | P4 < 3×3: M4
            3: C3       | M3 (+) < 1×1: C3 M4 | P3 < 3×3: M3
            2: C2       | M2 (+) < 1×1: C2 M3 | P2 < 3×3: M2""",
        results=(
            "box AP 37.4: Faster R-CNN R50, 12 epochs (mmdet model zoo)",
            "box AP 37.9: Faster R-CNN R50, 1x, with multi-scale training (Detectron2 model zoo)",
            "box AP 36.5: RetinaNet R50, 12 epochs (mmdet model zoo)",
        ),
        variants=FPN_VARIANTS,
        arguments=P6,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        upsample_mode: UpsampleMode = "nearest",
        fusion: str | Mapping[str, object] = "sum",
        norm: str | NormFactory | None = None,
        norm_on_lateral: bool = True,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
        after_merge: Mapping[str, Any] | LayerFactory | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        self.fusion, fusion_arguments = _check_fusion(fusion, upsample_mode, out_channels)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        check_upsample(upsample_mode, out_channels)
        extra = as_extra_levels(extra_levels)
        self.num_extra_levels = extra.num_levels if extra else 0
        self._extra_laterals = extra is not None and extra.in_top_down
        used = self.used_channels
        num_merged = len(used) + (self.num_extra_levels if self._extra_laterals else 0)

        lateral_norm = norm if boolean("norm_on_lateral", norm_on_lateral) else None
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm=lateral_norm, act=act, conv=conv) for channels in used
        )
        self.output_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, norm=norm, act=act, conv=conv) for _ in range(num_merged)
        )
        self.extra_levels = extra.build(used[-1], out_channels, norm, act, conv) if extra else None
        # merging in place needs laterals that nothing else uses: a foreign convolution or norm may save its result for
        # backward, and an extra lateral's convolution reads the lateral before it
        self._in_place = act is None and not callable(conv) and not callable(lateral_norm) and not self._extra_laterals
        init_convs(self, init)
        # built last: these have their own initialization
        learned = self.fusion == LEARNED
        steps = range(num_merged - 1)
        self.upsamples = nn.ModuleList(make_upsample(upsample_mode, out_channels) for _ in steps if not learned)
        self.fusions = nn.ModuleList(FreqFusion(out_channels, **fusion_arguments) for _ in steps if learned)
        self.after_merge = make_after_merge(after_merge, self.gradient_checkpointing)
        level_prefixes = ("lateral_convs.", "output_convs.", "extra_levels.", "upsamples.", "fusions.")
        accept_layouts(self, FPNLayouts(len(used), num_merged), level_prefixes)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs; TorchScript compiles this method and those it calls."""
        laterals = [conv(inputs[index]) for index, conv in enumerate(self.lateral_convs)]
        if self.extra_levels is not None and self._extra_laterals:
            laterals += self.extra_levels(inputs, laterals, [])
        merged = self.top_down(laterals)
        outputs = self.bottom_up([conv(merged[index]) for index, conv in enumerate(self.output_convs)])
        if self.extra_levels is not None and not self._extra_laterals:
            outputs += self.extra_levels(inputs, merged, outputs)
        return outputs

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Merge from the coarsest map down; maps ``B out_channels H W``, high to low resolution."""
        merged = [laterals[-1]]
        for step, upsample in enumerate(self.upsamples):
            lateral = laterals[-2 - step]
            up = upsample(merged[-1], (lateral.shape[-2], lateral.shape[-1]))
            merged.append(self.after_merge(fuse(lateral, up, self.fusion, self._in_place)))
        for step, fusion in enumerate(self.fusions):  # instead of the loop above
            merged.append(self.after_merge(fusion(laterals[-2 - step], merged[-1])))
        return merged[::-1]

    def bottom_up(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the output maps unchanged; subclasses add a second path here."""
        return maps


def _check_fusion(
    fusion: str | Mapping[str, object], upsample_mode: UpsampleMode, channels: int
) -> tuple[str, dict[str, Any]]:
    """Return the name of a fusion and the arguments of its class; no memory or random number is used.

    Raises:
        ValueError: an unknown name, an argument outside its class's range, or a fusion that upsamples itself beside
            another ``upsample_mode`` than the default.
        TypeError: an argument that the class does not have.
    """
    given: dict[str, Any] = {str(k): v for k, v in fusion.items()} if isinstance(fusion, Mapping) else {"type": fusion}
    name, arguments = given.get("type"), {key: value for key, value in given.items() if key != "type"}
    one_of("fusion", name, FUSIONS)
    if name != LEARNED and arguments:
        raise ValueError(f"fusion={shown(given)}: {name!r} has no arguments")
    if name == LEARNED:
        if upsample_mode not in ("nearest", {"type": "nearest"}):
            raise ValueError(f"fusion='freqfusion' upsamples itself; leave out upsample_mode={shown(upsample_mode)}")
        try:
            with torch.device("meta"):
                FreqFusion(channels, **arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"fusion={shown(given)}: {error}") from error
    return str(name), arguments
