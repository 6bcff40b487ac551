"""MSDeformAttnPixelDecoder: Mask2Former (Cheng et al., CVPR 2022, arXiv:2112.01527, section 3.2.1 and appendix).

::

    C5 --1x1--+                          +--> p5
    C4 --1x1--+--deformable encoder -----+--> p4
    C3 --1x1--+  (joint, 6 layers)       +--> p3
                                             | x2
    C2 --1x1---------------------------------+--3x3 --> p2 --1x1--> mask map
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import integer, positive_int, probability
from ..features import FeatureSpec, SemanticSpec
from ..initialization import INITS
from ..layers import ActFactory, ConvNormAct, NormFactory, check_layers, make_act, with_bias
from ..ops import checkpointing
from ..ops.deformable_attention import MultiScaleDeformableAttention, Sizes, cell_centers, sine_positions
from ..ops.memory_format import in_format_of
from ..weights import accept_layouts
from ..weights.maps import pixel_decoder
from .base import PyramidNeck
from .card import C2_TO_C5, NeckCard

ENCODER_LEVELS = 3


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each with a norm after it.

    Args:
        channels: channels of the tokens.
        ffn_channels: channels between the two linear layers.
        num_heads, num_levels, num_points: see `MultiScaleDeformableAttention`.
        dropout: share of the values that training drops after each part.
        act: activation of the feed-forward network.
    """

    def __init__(
        self,
        channels: int,
        ffn_channels: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        dropout: float = 0.0,
        act: str | ActFactory | None = "relu",
    ) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(channels, num_heads, num_levels, num_points)
        self.linear1 = nn.Linear(channels, ffn_channels)
        self.linear2 = nn.Linear(ffn_channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.act = make_act(act) or nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
        """Map tokens ``B N C`` at ``reference`` ``N 2`` to ``B N C``; ``positions`` ``N C`` are added to queries."""
        attended = self.self_attn(tokens + positions, tokens, reference, sizes)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.dropout(self.act(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(hidden)))


class MSDeformAttnPixelDecoder(PyramidNeck):
    """Mask2Former's pixel decoder: ``mask, *pyramid = neck(maps)``.

    A deformable transformer encoder mixes the coarsest maps with each other; an FPN step adds each finer one; the mask
    map is a projection of the finest. The mask map comes first and has the stride of the finest map; its published spec
    is a `SemanticSpec`.

    Args:
        in_channels: channels of each input map, high to low resolution.
        out_channels: channels of the pyramid; a multiple of 4 and of ``num_heads``.
        mask_channels: channels of the mask map.
        num_outs: number of levels of the pyramid, counted from the coarsest; ``None`` for those of the encoder.
        num_encoder_levels: number of maps that the encoder mixes, counted from the coarsest; ``None`` for three, or all
            if there are fewer.
        num_layers: layers of the encoder.
        num_heads, num_points: see `MultiScaleDeformableAttention`.
        ffn_channels: channels inside the encoder's feed-forward networks.
        dropout: share of the values that training drops in the encoder.
        norm: norm after each convolution, see `make_norm`.
        act: activation of the FPN steps; ``ffn_act`` that of the encoder.
        in_indices: positions of the maps to use, without gaps; ``None`` for all.
        gradient_checkpointing: recompute each layer of the encoder in backward.

    The maps can have any sizes. Deliberate difference to mmdet: with several FPN steps, whose layers mmdet builds in
    one order and uses in the other, each map has its own.

    State dict: see `fpn_plugins.weights.maps.pixel_decoder`. The layouts of mmdet and of the authors' code load
    unchanged.

    Raises:
        ValueError: channels that heads or positions do not divide, or more levels than there are maps.
    """

    card = NeckCard(
        idea="A deformable transformer encoder mixes the coarse maps; an FPN step adds the finest, from which a mask "
        "map is made.",
        use_when="with Mask2Former's heads, or where a transformer should mix levels at a cost linear in their cells.",
        caveats="Six encoder layers on all cells of C3-C5 are slow on CPUs, and need long training schedules.",
        paper="Bowen Cheng, Ishan Misra, Alexander G. Schwing, Alexander Kirillov, Rohit Girdhar: Masked-attention "
        "Mask Transformer for Universal Image Segmentation. CVPR 2022, arXiv:2112.01527",
        reference="Mask2Former `modeling/pixel_decoder/msdeformattn.py`, mmdet "
        "`models/layers/msdeformattn_pixel_decoder.py`",
        topology="""
               backbone | projected    | encoder (joint)         | FPN step            | output
            5: C5       | T5 < 1×1: C5 | E5 < T3 T4 T5           |                     | P5 < E5
            4: C4       | T4 < 1×1: C4 | E4 < T3 T4 T5           |                     | P4 < E4
            3: C3       | T3 < 1×1: C3 | E3 < T3 T4 T5           |                     | P3 < E3
            2: C2       |              |                         | M2 (+) < 1×1: C2 E3 | P (mask) < 3×3, 1×1: M2""",
        results=("mask AP 43.7: Mask2Former R50, 50 epochs (Mask2Former)",),
        in_specs=C2_TO_C5,
        example_arguments={
            "out_channels": 32,
            "mask_channels": 16,
            "num_layers": 1,
            "num_heads": 4,
            "ffn_channels": 32,
        },
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        mask_channels: int = 256,
        num_outs: int | None = None,
        num_encoder_levels: int | None = None,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        ffn_channels: int = 1024,
        dropout: float = 0.0,
        norm: str | NormFactory | None = "GN",
        act: str | ActFactory | None = "relu",
        ffn_act: str | ActFactory | None = "relu",
        in_indices: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        check_layers(norm=norm, act=act, ffn_act=ffn_act)
        number = len(self.used_channels)
        mixed = min(ENCODER_LEVELS, number) if num_encoder_levels is None else num_encoder_levels
        self.num_encoder_levels = integer("num_encoder_levels", mixed, 1, number)
        self.num_outs = integer("num_outs", mixed if num_outs is None else num_outs, 1, number)
        self.mask_channels = positive_int("mask_channels", mask_channels)
        probability("dropout", dropout)
        if out_channels % 4:
            raise ValueError(f"out_channels={out_channels} must be a multiple of 4: sine and cosine of both directions")
        fine = self.used_channels[: -self.num_encoder_levels]
        self.input_convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm=norm, conv=with_bias(None))
            for channels in reversed(self.used_channels[len(fine) :])
        )
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                *(
                    out_channels,
                    positive_int("ffn_channels", ffn_channels),
                    num_heads,
                    self.num_encoder_levels,
                    num_points,
                ),
                *(dropout, ffn_act),
            )
            for _ in range(positive_int("num_layers", num_layers))
        )
        self.level_embed = nn.Parameter(torch.empty(self.num_encoder_levels, out_channels))
        self.lateral_convs = nn.ModuleList(ConvNormAct(channels, out_channels, 1, norm=norm) for channels in fine)
        self.output_convs = nn.ModuleList(ConvNormAct(out_channels, out_channels, 3, norm=norm, act=act) for _ in fine)
        self.mask_conv = nn.Conv2d(out_channels, mask_channels, 1)
        self.init_decoder()
        accept_layouts(self, pixel_decoder.layouts(), ("input_convs.", "lateral_convs.", "output_convs.", "layers."))

    def init_decoder(self) -> None:
        """Initialize all weights as Mask2Former does."""
        layers: Any = self.layers
        for conv in self.input_convs:
            _fill("xavier_uniform", conv)
        for pair in zip(self.lateral_convs, self.output_convs, strict=True):
            for conv in pair:
                _fill("caffe2_xavier", conv)
        _fill("caffe2_xavier", self.mask_conv)
        nn.init.normal_(self.level_embed)
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        for layer in layers:
            layer.self_attn.init_weights()

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the spec of the mask map, then those of the pyramid; see `Neck.out_specs`."""
        pyramid = super().out_specs(in_specs)
        return (SemanticSpec(self.mask_channels, pyramid[0].stride), *pyramid[-self.num_outs :])

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the mask map and the pyramid, high to low resolution."""
        outputs = self.encode(inputs[-self.num_encoder_levels :])
        fine = inputs[: -self.num_encoder_levels]
        for x, lateral, output in reversed(list(zip(fine, self.lateral_convs, self.output_convs, strict=True))):
            x = lateral(x)
            x = x + F.interpolate(outputs[0], size=x.shape[-2:], mode="bilinear", align_corners=False)
            outputs = [output(x), *outputs]
        return [self.mask_conv(outputs[0]), *outputs[-self.num_outs :]]

    def encode(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix maps, high to low resolution, with each other."""
        coarse_first = [conv(x) for conv, x in zip(self.input_convs, reversed(maps), strict=True)]
        sizes = [(x.shape[-2], x.shape[-1]) for x in coarse_first]
        device = coarse_first[0].device
        tokens = torch.cat([x.flatten(2) for x in coarse_first], 2).transpose(1, 2)
        positions = torch.cat(
            [
                sine_positions(*size, self.out_channels, device).flatten(1).transpose(0, 1).to(embed.dtype) + embed
                for size, embed in zip(sizes, self.level_embed, strict=True)
            ]
        )
        reference = cell_centers(sizes, device)
        for layer in self.layers:
            arguments = (tokens, positions, reference, sizes)
            tokens = checkpointing.run(layer, *arguments, checkpointed=self.gradient_checkpointing)
        cells = tokens.transpose(1, 2).split([height * width for height, width in sizes], 2)
        mixed = [x.unflatten(2, size) for x, size in zip(reversed(cells), reversed(sizes), strict=True)]
        return [in_format_of(x, given) for x, given in zip(mixed, maps, strict=True)]


def _fill(init: str, layer: Any) -> None:
    """Initialize a convolution, or that of a `ConvNormAct`."""
    conv = getattr(layer, "conv", layer)
    INITS[init](conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
