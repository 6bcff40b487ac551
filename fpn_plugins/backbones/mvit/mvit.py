"""MViTv2 for detection: a hierarchical transformer with pooling attention, four maps of stride 4 to 32.

::

    image --conv 7x7 /4--> blocks ... --> C2 /4      windows of 56 cells
                           blocks ... --> C3 /8      windows of 28, the last block over the whole map
                           blocks ... --> C4 /16     windows of 14, the last block over the whole map
                           blocks ... --> C5 /32     windows of 7,  the last block over the whole map

    attention: q, k, v = pool(W x);  softmax(q k / sqrt(d) + positions) v + q

Source: MViTv2 (arXiv:2112.01526), section 4.2 and table 8; Detectron2's ``modeling/backbone/mvit.py`` and its configs
(``projects/MViTv2``). timm's networks of these names share the weights but not the forward: their attention is always
global, and their image size is fixed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...checks import ascending, boolean, divisor, integer, integers, positive_int, positive_number, text
from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import as_map
from ...weights import accept_layouts
from ...weights.input_channels import accept_color_images
from ...weights.maps.mvit import mvit_layouts
from ...weights.shapes import refuse_other_shapes
from ..base import Backbone, Part
from ..build import register_backbone
from ..layer_numbers import block_layers
from ..sizes import drop_path_rates, initialize_linear, published_size
from .blocks import BlockPlan, MultiScaleBlock

PATCH_STRIDE = 4
KV_STRIDE = 4  # in the first stage; halved at each later one, like the map


class MViTVariant(NamedTuple):
    """Channels and heads of the first stage, doubled from stage to stage, and position of each stage's last block."""

    embed_dim: int
    num_heads: int
    last_block_indices: tuple[int, ...]


# timm's names; those with "cls" were pre-trained with a class token, which the detector omits
VARIANTS = {
    "mvitv2_tiny": MViTVariant(96, 1, (0, 2, 7, 9)),
    "mvitv2_small": MViTVariant(96, 1, (0, 2, 13, 15)),
    "mvitv2_base": MViTVariant(96, 1, (1, 4, 20, 23)),
    "mvitv2_small_cls": MViTVariant(96, 1, (0, 2, 13, 15)),
    "mvitv2_base_cls": MViTVariant(96, 1, (1, 4, 20, 23)),
    "mvitv2_large_cls": MViTVariant(144, 2, (1, 7, 43, 47)),
    "mvitv2_huge_cls": MViTVariant(192, 3, (3, 11, 71, 79)),
}


@register_backbone
class MViT(Backbone):
    """MViTv2 with the forward that its detectors were trained with.

    Matches Detectron2's ``MViT`` as its MViTv2 detectors configure it (hybrid window attention, a doubled key stride
    in the last blocks of the second and third stage, a norm after each stage). Differences: there are no absolute
    position embeddings, which none of these detectors has; stages after the last requested map are not built.

    Args:
        name: timm's name, one of `VARIANTS`, with or without the tag of its weights (``"mvitv2_tiny.fb_in1k"``).
        out_indices: stages whose maps C2..C5 are returned, ascending.
        pretrained, in_chans, drop_path_rate, gradient_checkpointing, feature_cache: see `Backbone`.
        checkpoint: see `Backbone`; in the layout of Detectron2, the official repository (``.pyth``), timm or this
            module. Classifiers have no norms after the stages, which keep their values.
        frozen_stages: see `Backbone`; the stem is the patch embedding; a stage includes the norm of its map.
        window_size: side of the first stage's attention windows, in cells; halves from stage to stage.
        img_size: side in pixels of the square images that the tables of relative positions are made for, which is the
            image size of the pre-training; the tables are resized for images of other sizes, as in detectron2.
        norm_eps: epsilon of all norms; Detectron2's configs have 1e-6 (its class defaults to 1e-5).
        embed_dim: channels of the first map; ``None`` takes the value of ``name``, like the next two.
        num_heads: heads in the first stage.
        last_block_indices: position of the last block of each stage; the depth is the last position plus one.

    Images can have any size. State dict: ``patch_embed.proj.*``, ``blocks.<i>.*`` (see `MultiScaleBlock`),
    ``norms.<s>.*``.

    Raises:
        ImportError: ``pretrained`` without timm.
        ValueError: unknown name (suggests similar names), sizes that do not fit together, positions out of range, or a
            checkpoint of another network (lists the keys; tables of relative positions of another length are for
            another ``img_size``).
    """

    misfit_hint = "; rel_pos_h and rel_pos_w of another length are for another img_size"

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool | None = False,
        checkpoint: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        window_size: int = 56,
        img_size: int = 224,
        norm_eps: float = 1e-6,
        embed_dim: int | None = None,
        num_heads: int | None = None,
        last_block_indices: Sequence[int] | None = None,
        feature_cache: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        positive_int("in_chans", in_chans)
        integer("window_size", window_size, 1)
        integer("img_size", img_size, PATCH_STRIDE)
        positive_number("norm_eps", norm_eps)
        self.name, self.in_chans = text("name", name, "mvitv2_tiny"), in_chans
        given = {"embed_dim": embed_dim, "num_heads": num_heads, "last_block_indices": last_block_indices}
        if name.split(".")[0] == "mvitv2_large":
            raise ValueError(
                f"timm's {name!r} doubles its channels in the MLPs, which no detector does; use 'mvitv2_large_cls', "
                "which doubles them in the attention"
            )
        variant = published_size(name, VARIANTS, **given)
        plans = plan_blocks(variant, window_size, img_size)
        strides = [PATCH_STRIDE << stage for stage in range(len(variant.last_block_indices))]
        table = ", ".join(f"{stage}: stride {stride}" for stage, stride in enumerate(strides))
        self.out_indices = ascending("out_indices", out_indices, len(strides), f"of the stages ({table})")
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        self.last_block_indices = variant.last_block_indices[: self.out_indices[-1] + 1]
        channels = [plans[last].out_channels for last in self.last_block_indices]
        self.feature_specs = tuple(FeatureSpec(channels[i], strides[i]) for i in self.out_indices)
        patches = nn.Conv2d(in_chans, variant.embed_dim, 7, stride=PATCH_STRIDE, padding=3)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.depth = len(plans)
        rates = drop_path_rates(drop_path_rate, self.depth)
        used = list(zip(plans, rates, strict=True))[: self.last_block_indices[-1] + 1]
        self.blocks = nn.ModuleList(MultiScaleBlock(plan, rate, norm_eps) for plan, rate in used)
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(channels[i], norm_eps) for i in self.out_indices})
        initialize_linear(self)
        accept_layouts(self, mvit_layouts(variant.last_block_indices, self.out_indices))
        accept_color_images(self, ["patch_embed.proj.weight"], in_chans)
        refuse_other_shapes(
            self, "Build the network as it was trained (name, embed_dim, num_heads, img_size, in_chans)"
        )
        self.load_and_freeze(frozen_stages, checkpoint, pretrained, feature_cache)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``.

        Sides are rounded up at every halving.
        """
        self.check_image(x)
        tokens = self.patch_embed(x).permute(0, 2, 3, 1)  # B H W C
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = checkpointing.run(block, tokens, checkpointed=self.gradient_checkpointing)
            stage = self.last_block_indices.index(index) if index in self.last_block_indices else None
            if stage in self.out_indices:
                normed = self.norms[str(stage)](tokens) if str(stage) in self.norms else tokens
                maps.append(as_map(normed, x))
        return self.complete(maps)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the norms of unread maps, and the blocks after the last read map."""
        read = [self.out_indices[position] for position in sorted(kept)]
        for stage in set(self.norms) - set(map(str, read)):
            del self.norms[stage]
        self.last_block_indices = self.last_block_indices[: read[-1] + 1]
        del self.blocks[self.last_block_indices[-1] + 1 :]

    def stage_parts(self) -> list[list[Part]]:
        """List the patch embedding, then the blocks of each stage with the norm of its map."""
        parts: list[list[Part]] = [[self.patch_embed]]
        first = 0
        for stage, last in enumerate(self.last_block_indices):
            norms = [self.norms[str(stage)]] if str(stage) in self.norms else []
            parts.append([*self.blocks[first : last + 1], *norms])
            first = last + 1
        return parts

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the blocks of all stages from 1; blocks that are not built count too."""
        return block_layers(self), self.depth + 1


def plan_blocks(variant: MViTVariant, window_size: int = 56, img_size: int = 224) -> list[BlockPlan]:
    """Plan the blocks of a network, in order.

    The first block of each stage after the first stage halves the map and doubles channels and heads; its windows and
    its map of keys are those of the previous stage. The last block of each of these stages attends over the whole map;
    in the second and third stage, its keys have half the resolution. Sizes are those of `MViT`.

    Raises:
        ValueError: heads that do not divide the channels, positions of last blocks that do not ascend, or windows that
            the pooling strides do not divide.
    """
    positive_int("embed_dim", variant.embed_dim)
    divisor("num_heads", variant.num_heads, variant.embed_dim, "channels of the first map")
    lasts = list(integers("last_block_indices", variant.last_block_indices))
    if not lasts or lasts != sorted(set(lasts)) or lasts[0] < 0:
        raise ValueError(f"last_block_indices={lasts} must be ascending positions of blocks, one for each stage")
    plans: list[BlockPlan] = []
    grid = img_size // PATCH_STRIDE
    first, channels = 0, variant.embed_dim
    for stage, last in enumerate(lasts):
        stride_kv = max(KV_STRIDE >> stage, 1)
        for index in range(first, last + 1):
            halves = stage > 0 and index == first
            whole = stage > 0 and index == last
            plan = BlockPlan(
                in_channels=channels,
                out_channels=variant.embed_dim << stage,
                num_heads=variant.num_heads << stage,
                stride_q=2 if halves else 1,
                stride_kv=2 * stride_kv if whole and stage in (1, 2) else stride_kv,
                window_size=0 if whole else window_size >> (stage - halves),
                rel_pos_size=grid >> (stage - halves),
            )
            if plan.window_size % plan.stride_q or plan.window_size % plan.stride_kv:
                raise ValueError(
                    f"window_size={window_size} gives a stage windows of {plan.window_size} cells, which its strides "
                    f"{plan.stride_q} and {plan.stride_kv} do not divide; use a multiple of 8 such as 56"
                )
            plans.append(plan)
            channels = plan.out_channels
        first = last + 1
    return plans
