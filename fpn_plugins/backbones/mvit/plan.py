"""Which blocks an MViTv2 for detection has: the sizes by name, and what distinguishes one block from the next.

Source: MViTv2 (arXiv:2112.01526), table 8 and section 4.2; detectron2's ``modeling/backbone/mvit.py`` and its configs
(``projects/MViTv2``).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from .blocks import BlockPlan

PATCH_STRIDE = 4
KV_STRIDE = 4  # of the first stage; halves from stage to stage, as the map does


class MViTVariant(NamedTuple):
    """The size of a network.

    Attributes:
        embed_dim: channels of the first map; they double from map to map.
        num_heads: heads in the first stage; they double as well.
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
    """The blocks of a network, in order.

    The first block of each stage but the first halves the map and doubles channels and heads; it works with the windows
    and the keys' map of the stage before. The last block of each stage but the first attends to the whole map, in the
    second and third stage with keys of half the resolution.

    Args:
        variant: size of the network.
        window_size: side of the first stage's windows, in cells.
        img_size: side of the images that the relative positions are made for, in pixels.

    Raises:
        ValueError: windows that the steps do not divide.
    """
    plans: list[BlockPlan] = []
    grid = img_size // PATCH_STRIDE
    first, channels = 0, variant.embed_dim
    for stage, last in enumerate(variant.last_block_indices):
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
            _check_windows(plan, window_size)
            plans.append(plan)
            channels = plan.out_channels
        first = last + 1
    return plans


def _check_windows(plan: BlockPlan, window_size: int) -> None:
    if plan.window_size % plan.stride_q or plan.window_size % plan.stride_kv:
        raise ValueError(
            f"window_size={window_size} gives a stage windows of {plan.window_size} cells, which its steps "
            f"{plan.stride_q} and {plan.stride_kv} do not divide; use a multiple of 8 such as 56"
        )


def find_variant(
    name: str, embed_dim: int | None, num_heads: int | None, last_block_indices: Sequence[int] | None
) -> MViTVariant:
    """The named size, with what is given in the place of its own.

    Args:
        name: one of `VARIANTS`, with or without the tag of weights.
        embed_dim: channels of the first map, or ``None``.
        num_heads: heads in the first stage, or ``None``.
        last_block_indices: position of the last block of each stage, or ``None``.

    Raises:
        ValueError: unknown name (suggests near names), or sizes that do not fit together.
    """
    architecture = name.split(".")[0]
    if architecture == "mvitv2_large":
        raise ValueError(
            f"timm's {name!r} doubles its channels in the MLPs, which no detector does; use 'mvitv2_large_cls', which "
            "doubles them in the attention"
        )
    if architecture not in VARIANTS:
        near = difflib.get_close_matches(architecture, VARIANTS, n=3, cutoff=0.5)
        raise ValueError(f"MViT has no network {name!r}; choose one of {sorted(VARIANTS)} (near: {near})")
    size = VARIANTS[architecture]
    lasts = size.last_block_indices if last_block_indices is None else tuple(int(i) for i in last_block_indices)
    variant = MViTVariant(
        size.embed_dim if embed_dim is None else embed_dim, size.num_heads if num_heads is None else num_heads, lasts
    )
    if not lasts or list(lasts) != sorted(set(lasts)) or lasts[0] < 0:
        raise ValueError(f"last_block_indices={list(lasts)} must be ascending positions of blocks, one for each stage")
    if variant.num_heads < 1 or variant.embed_dim % variant.num_heads:
        raise ValueError(f"num_heads={variant.num_heads} must divide embed_dim={variant.embed_dim}")
    return variant
