"""Put a Vision Transformer on top of a convolutional network: C2-C4 from the CNN, C5 from the transformer.

::

    image --CNN--> c2 /4 --> c3 /8 --> c4 /16 --> c5 /32 --ViT--> c5            vit_stride=32
    image --CNN--> c2 /4 --> c3 /8 --> c4 /16 --ViT-- /16 --3x3, stride 2--> c5     vit_stride=16

Source: the "hybrid architecture" of ViT (arXiv:2010.11929, section 3.1), whose encoder reads a ResNet's map through a
1x1 projection with position embeddings; here the ResNet's finer maps are kept for the pyramid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import integer, mapping
from ..features import FeatureSpec
from ..layers import LayerNorm2d
from .base import Backbone, Part, keep_maps, stage_parts
from .build import build_part, register_backbone
from .layer_numbers import with_prefix
from .vit.vit import ViT

OUT_STRIDE = 32
VIT_STRIDES = (16, 32)
# default image sides for absolute and relative positions, which are resized for other images
POSITIONS_SIDE, RELATIVE_SIDE = 224, 1024


@register_backbone
class HybridCNNViT(Backbone):
    """CNN that computes C2..C4, with a Vision Transformer on top that computes C5.

    Args:
        cnn: a backbone, or its ``{"type": ..., **arguments}`` mapping, whose last map has the stride ``vit_stride``:
            ``{"type": "TimmBackbone", "name": "resnet50"}``, with ``out_indices=(1, 2, 3)`` for ``vit_stride=16``.
        vit: arguments of `ViT` for the encoder. By default, its blocks attend over the whole map and have no relative
            positions; set ``window_size``, ``global_block_indices`` and ``use_rel_pos`` to change that. A ``name``
            gives the encoder the parts of that network, without its weights, whose patches are pixels.
        vit_stride: stride of the map that the encoder reads. 32: the CNN's C5, which it replaces. 16: the CNN's C4,
            which is kept (four times the tokens); a 3x3 convolution of stride 2 turns the encoder's output into C5.
        frozen_stages: see `Backbone`; the stages are those of ``cnn``, then the blocks of the encoder, the first with
            its embeddings.

    Attributes:
        feature_specs: the CNN's maps without its C5, then ``embed_dim`` channels at stride 32.

    The encoder is a `ViT` whose patches are the cells of the map (a 1x1 projection), with learned position embeddings
    made for 224 x 224 images, and a final norm, as in ViT.

    State dict: ``cnn.*``, ``vit.*``, ``norm.*``, and ``downsample.*`` for ``vit_stride=16``. Each part has its own
    ``pretrained``, ``checkpoint`` and ``frozen_stages``; for pretrained hybrids see `TimmHybrid`.

    Raises:
        ValueError: another ``vit_stride``, or a CNN whose last map has another stride.
    """

    def __init__(
        self,
        cnn: nn.Module | Mapping[str, Any],
        vit: Mapping[str, Any],
        vit_stride: int = OUT_STRIDE,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        mapping("vit", vit, '{"embed_dim": 768}')
        if integer("vit_stride", vit_stride) not in VIT_STRIDES:
            raise ValueError(f"vit_stride={vit_stride} must be 32 (the encoder on C5) or 16 (on C4)")
        self.cnn, specs = build_part("cnn", cnn)
        self.expect_pixels_of(self.cnn)
        self.in_chans = getattr(self.cnn, "in_chans", None)
        last = specs[-1]
        if last.stride != vit_stride:
            raise ValueError(
                f"vit_stride={vit_stride} must be the stride of the CNN's last map, but its maps have strides "
                f"{[spec.stride for spec in self.cnn.feature_specs]}; end its out_indices at that stride"
            )
        self.vit: ViT | None = ViT(
            **{**_encoder_defaults(vit_stride, vit.get("name")), **vit, "patch_size": 1, "in_chans": last.channels}
        )
        (channels, _), *_ = self.vit.feature_specs
        self.norm: nn.Module | None = LayerNorm2d(channels)
        self.downsample: nn.Module | None = downsampling(channels, vit_stride)
        finer = [spec for spec in self.cnn.feature_specs if spec.stride < OUT_STRIDE]
        self.feature_specs = (*finer, FeatureSpec(channels, OUT_STRIDE))
        self.load_and_freeze(frozen_stages)

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the parts of the CNN, then each block of the encoder."""
        cnn = stage_parts(self.cnn)
        if self.vit is None or not cnn:
            return cnn
        embeddings, first, *others = self.vit.stage_parts()
        return [*cnn, [*embeddings, *first], *others]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``."""
        self.check_image(x)
        maps = self.cnn(x)
        finer = maps[: len(self.feature_specs) - 1]
        if self.vit is None or self.norm is None or self.downsample is None:
            return self.complete(finer)
        (top,) = self.vit(maps[-1])
        return self.complete([*finer, self.downsample(self.norm(top))])

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the encoder, if its map is unread, and what the CNN has for unread maps alone."""
        top = len(self.feature_specs) - 1
        read = {position for position in kept if position < top}
        if top in kept:
            read.add(len(self.cnn.feature_specs) - 1)
        else:
            self.vit = self.norm = self.downsample = None
        keep_maps(self.cnn, read)

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the ViT, and the CNN as layer 0, as in timm; without the ViT, those of the CNN."""
        if self.vit is None:
            layers, top = self.cnn.parameter_layers()
            return with_prefix("cnn", layers), top
        layers, top = self.vit.parameter_layers()
        cnn = {name: 0 for name, _ in self.cnn.named_parameters()}
        return {**with_prefix("cnn", cnn), **with_prefix("vit", layers)}, top


def downsampling(channels: int, stride: int) -> nn.Module:
    """Build the layer from the encoder's map to C5: none at stride 32; at 16, a convolution that rounds sizes up."""
    if stride == OUT_STRIDE:
        return nn.Identity()
    conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _encoder_defaults(stride: int, name: str | None) -> dict[str, Any]:
    parts = {"use_rel_pos": False, "pretrain_use_cls_token": False} if name is None else {}  # decided by a name
    return {
        "window_size": 0,
        "global_block_indices": (),
        "img_size": RELATIVE_SIDE // stride,
        "pretrain_img_size": POSITIONS_SIDE // stride,
        **parts,
    }
