"""Sizes of the published MViTv2 networks, and the plan of their blocks for detection.

Source: MViTv2 (arXiv:2112.01526), table 8 and section 4.2; detectron2's ``modeling/backbone/mvit.py`` and its configs
(``projects/MViTv2``).
"""

from __future__ import annotations

from typing import NamedTuple

from ...checks import divisor
from .blocks import BlockPlan

PATCH_STRIDE = 4
KV_STRIDE = 4  # in the first stage; halves from stage to stage, as the map does


class MViTVariant(NamedTuple):
    """Size of a network.

    Attributes:
        embed_dim: channels of the first map, doubled from map to map.
        num_heads: heads in the first stage, doubled from stage to stage.
        last_block_indices: position of the last block of each stage, counted through all stages.
    """

    embed_dim: int
    num_heads: int
    last_block_indices: tuple[int, ...]


# timm's names; those with "cls" were pre-trained with a class token, which the detector leaves out
VARIANTS = {
    "mvitv2_tiny": MViTVariant(96, 1, (0, 2, 7, 9)),
    "mvitv2_small": MViTVariant(96, 1, (0, 2, 13, 15)),
    "mvitv2_base": MViTVariant(96, 1, (1, 4, 20, 23)),
    "mvitv2_small_cls": MViTVariant(96, 1, (0, 2, 13, 15)),
    "mvitv2_base_cls": MViTVariant(96, 1, (1, 4, 20, 23)),
    "mvitv2_large_cls": MViTVariant(144, 2, (1, 7, 43, 47)),
    "mvitv2_huge_cls": MViTVariant(192, 3, (3, 11, 71, 79)),
}


def plan_blocks(variant: MViTVariant, window_size: int = 56, img_size: int = 224) -> list[BlockPlan]:
    """Plan the blocks of a network, in order.

    The first block of each stage after the first stage halves the map and doubles channels and heads; its windows and
    its map of keys are those of the stage before. The last block of each of these stages attends over the whole map; in
    the second and third stage, its keys have half the resolution.

    Args:
        variant: size of the network.
        window_size: side of the first stage's windows, in cells.
        img_size: side of the images that the relative positions are made for, in pixels.

    Raises:
        ValueError: heads that do not divide the channels, positions of last blocks that do not ascend, or windows that
            the pooling strides do not divide.
    """
    divisor("num_heads", variant.num_heads, variant.embed_dim, "channels of the first map")
    lasts = list(variant.last_block_indices)
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
