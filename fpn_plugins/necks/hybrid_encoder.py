"""HybridEncoder: DETRs Beat YOLOs on Real-time Object Detection (RT-DETR, Zhao et al., CVPR 2024, arXiv:2304.08069).

::

    c5 --1x1--attention--1x1--+--------> m5 ---concat--RepCSP--> p5 --> extra levels
                              | x2               ^ 3x3, stride 2
    c4 --1x1--------concat--RepCSP--1x1--+-> m4 -concat--RepCSP--> p4
                                         | x2    ^ 3x3, stride 2
    c3 --1x1-----------------concat--RepCSP------+---------------> p3

              top-down                      bottom-up

Attention within the coarsest map alone (AIFI, section 4.2), then PANet's two paths with concatenations (CCFF). D-FINE
(arXiv:2410.13842) and DEIM (arXiv:2412.04234) have larger blocks and a depthwise downsampling.

Deliberate differences to RT-DETR's code: it doubles the resolution, and fails if the finer map is not exactly twice as
large; this class resizes to the finer map's size. Its positions are those of a transposed map, which is harmless on the
square images that it is trained on, but mixes up the cells of others; here each cell has its own row and column at any
size, equal to theirs on square maps (as in Hugging Face's ``transformers``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import ascending, boolean, integer, one_of, positive_number
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..upsampling import UpsampleMode, check_upsample, make_upsample
from ..weights import accept_layouts
from ..weights.maps import hybrid_encoder
from .card import C3_TO_C5, NeckCard
from .concat_paths import ConcatPaths
from .encoder import MapEncoder
from .extra_levels import ExtraLevels, extra_levels_of_outputs
from .rep import CSPRepLayer, RepELAN, SCDown

BLOCKS = ("rep_csp", "elan")
DOWNSAMPLES = ("conv", "scdown")


class HybridEncoder(ConcatPaths):
    """Transformer layer on the coarsest map, then a top-down and a bottom-up path of re-parameterized CSP layers.

    Args:
        in_channels, in_indices: see `PyramidNeck`; RT-DETR reads C3 to C5.
        out_channels: channels of every map after the first convolutions; divisible by 4 and by ``num_heads``.
        extra_levels: levels after the last one, as `ExtraLevels` or a mapping of its arguments, with
            ``source="output"``; ``None`` as in RT-DETR.
        block: layer after each concatenation: ``"rep_csp"`` (RT-DETR, `CSPRepLayer`) or ``"elan"`` (D-FINE, DEIM,
            `RepELAN`).
        num_blocks: RepVGG blocks in each CSP layer: 3 (RT-DETR, D-FINE-L, -X), 2 (-M, -N), 1 (-S).
        expand_ratio: width of the RepVGG blocks relative to ``out_channels``, with ``"elan"`` relative to half of it:
            1 (RT-DETR-R50, D-FINE-M to -X), 0.5 (RT-DETR-R18 and -R34, D-FINE-S), 0.34 (-N).
        downsample: ``"conv"`` (RT-DETR: 3x3, stride 2) or ``"scdown"`` (D-FINE, DEIM, `SCDown`).
        act_on_lateral: whether the 1x1 convolutions between two steps of the top-down path have the activation
            (RT-DETR); ``False`` in D-FINE and DEIM.
        attention_indices: positions, among the used maps, of those with attention; ``None`` for the last.
        num_attention_layers: transformer layers on each of these maps.
        num_heads: attention heads.
        mlp_channels: channels inside the transformer layers' MLP.
        dropout: rate of dropout in the transformer layers.
        temperature: base of the wavelengths of the attention's positions.
        attention_act: activation of the MLP.
        upsample_mode: ``"nearest"`` or another, see `make_upsample`.
        norm: norm after each convolution.
        act: activation after each convolution of the two paths.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; ``None`` for PyTorch's own, as in RT-DETR.
        gradient_checkpointing: recompute the maps inside attention and CSP layers in backward instead of keeping them.

    RT-DETR's encoder are the defaults; D-FINE's and DEIM's is ``block="elan", downsample="scdown",
    act_on_lateral=False``. For deployment, `fuse_convs` merges the branches and batch norms.

    State dict: see `fpn_plugins.weights.maps.hybrid_encoder`. The layouts of RT-DETR (v1, v2), D-FINE and DEIM load
    unchanged, without the prefix that they have in detectors (``strip_prefix(weights, "encoder.")``).

    Raises:
        ValueError: an argument outside the values above.
    """

    card = NeckCard(
        idea="A transformer layer on the coarsest map, then PAFPN's two paths with concatenations and RepVGG blocks.",
        use_when="for real-time detectors on CNNs: attention where it is cheap, convolutions that fuse for deployment.",
        caveats="Attention costs the square of the number of cells of the coarsest map: for large images, pass coarser "
        "maps. Written for square images of one size.",
        paper="Yian Zhao, Wenyu Lv, Shangliang Xu, Jinman Wei, Guanzhong Wang, Qingqing Dang, Yi Liu, Jie Chen: DETRs "
        "Beat YOLOs on Real-time Object Detection. CVPR 2024, arXiv:2304.08069",
        reference="RT-DETR `rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py`, D-FINE `src/zoo/dfine/hybrid_encoder.py`",
        topology="""
               backbone | 1×1, attention           | top-down            | bottom-up           | output
            5: C5       | A5 (attention) < 1×1: C5 | M5 (1×1) < A5       | N5 (RepCSP) < M5 N4 | P5 < N5
            4: C4       | L4 < 1×1: C4             | M4 (RepCSP) < L4 M5 | N4 (RepCSP) < M4 N3 | P4 < N4
            3: C3       | L3 < 1×1: C3             | M3 (RepCSP) < L3 M4 | N3 < M3             | P3 < N3""",
        results=(
            "box AP 53.1: RT-DETR-R50, 72 epochs, 640 px (RT-DETR)",
            "box AP 54.0: D-FINE-L, HGNetv2-B4, 72 epochs, 640 px (D-FINE)",
        ),
        in_specs=C3_TO_C5,
        example_arguments={"out_channels": 32, "num_blocks": 1, "expand_ratio": 0.5, "mlp_channels": 48},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        block: str = "rep_csp",
        num_blocks: int = 3,
        expand_ratio: float = 1.0,
        downsample: str = "conv",
        act_on_lateral: bool = True,
        attention_indices: Sequence[int] | None = None,
        num_attention_layers: int = 1,
        num_heads: int = 8,
        mlp_channels: int = 1024,
        dropout: float = 0.0,
        temperature: float = 10000.0,
        attention_act: str | ActFactory | None = "gelu",
        upsample_mode: UpsampleMode = "nearest",
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "silu",
        conv: ConvFactory | None = None,
        init: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        check_layers(norm=norm, act=act, attention_act=attention_act, conv=conv, init=init)
        check_upsample(upsample_mode, out_channels)
        integer("num_attention_layers", num_attention_layers, 0)
        positive_number("temperature", temperature)
        extra = extra_levels_of_outputs(extra_levels, type(self).__name__)
        self.num_extra_levels = extra.num_levels if extra else 0
        levels = len(self.used_channels)
        attended = (levels - 1,) if attention_indices is None else attention_indices
        among = f"among the {levels} used maps"
        self.attention_indices = ascending("attention_indices", attended, levels, among)
        layers: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        lateral_act = act if boolean("act_on_lateral", act_on_lateral) else None
        join = _make_block(out_channels, block, num_blocks, expand_ratio, layers)
        halve = _make_downsample(out_channels, downsample, layers)

        def steps(build: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(build() for _ in range(levels - 1))

        self.input_convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm=norm, conv=conv) for channels in self.used_channels
        )
        self.encoders = nn.ModuleList(
            MapEncoder(out_channels, num_attention_layers, num_heads, mlp_channels, dropout, attention_act, temperature)
            for _ in self.attention_indices
        )
        self.reduce_convs = steps(
            lambda: ConvNormAct(out_channels, out_channels, 1, norm=norm, act=lateral_act, conv=conv)
        )
        self.top_down_blocks = steps(join)
        self.downsample_convs = steps(halve)
        self.bottom_up_blocks = steps(join)
        self.extra_levels = extra.build(out_channels, out_channels, norm, act, conv) if extra else None
        init_convs(self, init)
        # built last: learned upsampling has its own initialization
        self.upsamples = steps(lambda: make_upsample(upsample_mode, out_channels))
        level_prefixes = ("input_convs.", "reduce_convs.", "downsample_convs.", "extra_levels.")
        accept_layouts(self, (hybrid_encoder.rt_detr(), hybrid_encoder.d_fine()), level_prefixes)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        maps = [conv(x) for conv, x in zip(self.input_convs, inputs, strict=True)]
        for index, encoder in zip(self.attention_indices, self.encoders, strict=True):
            maps[index] = checkpointing.run(encoder, maps[index], checkpointed=self.gradient_checkpointing)
        outputs = self.bottom_up(self.top_down(maps))
        if self.extra_levels is not None:
            outputs += self.extra_levels(inputs, outputs, outputs)
        return outputs


def _make_block(
    channels: int, block: str, num_blocks: int, ratio: float, layers: dict[str, Any]
) -> Callable[[], nn.Module]:
    """Check the arguments of the layers after concatenations, and return their factory."""
    integer("num_blocks", num_blocks, 0)
    positive_number("expand_ratio", ratio)
    if one_of("block", block, BLOCKS) == "rep_csp":
        return lambda: CSPRepLayer(2 * channels, channels, num_blocks, ratio, **layers)
    width = int(ratio * channels // 2)
    if width < 1:
        raise ValueError(f"expand_ratio={ratio} leaves no channels of half the out_channels={channels}")
    return lambda: RepELAN(2 * channels, channels, 2 * channels, width, num_blocks, **layers)


def _make_downsample(channels: int, downsample: str, layers: dict[str, Any]) -> Callable[[], nn.Module]:
    """Check the kind of downsampling, and return its factory."""
    if one_of("downsample", downsample, DOWNSAMPLES) == "conv":
        return lambda: ConvNormAct(channels, channels, 3, 2, **layers)
    return lambda: SCDown(channels, channels, layers["norm"], layers["conv"])
