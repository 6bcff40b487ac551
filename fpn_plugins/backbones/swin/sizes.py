"""The published Swin Transformers: their names, and what they differ in."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from ...weights.maps.swin import STAGES
from ..base import check_ascending

PATCH_SIZE = 4  # pixels


class SwinSize(NamedTuple):
    """What the networks differ in: channels of the first stage, blocks and heads of each."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]


# arXiv:2103.14030, section 3.3; heads have 32 channels
SIZES = {
    "tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
# timm's names: size and window
MODELS = {f"swin_{size}_patch4_window7_224": (SIZES[size], 7) for size in SIZES}
MODELS |= {f"swin_{size}_patch4_window12_384": (SIZES[size], 12) for size in ("base", "large")}


def published_size(name: str) -> tuple[SwinSize, int]:
    """Size and window of the network that timm calls so; ``ValueError`` for another name, with near ones."""
    architecture = name.split(".")[0]
    if architecture not in MODELS:
        near = difflib.get_close_matches(architecture, MODELS, n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise ValueError(f"there is no Swin {name!r}; choose one of {sorted(MODELS)}{hint}")
    return MODELS[architecture]


def check_size(size: SwinSize, window_size: int) -> SwinSize:
    """The size itself; ``ValueError`` unless a network of four stages can have it."""
    for argument, values in (("depths", size.depths), ("num_heads", size.num_heads)):
        if len(values) != STAGES or min(values) < 1:
            raise ValueError(f"{argument}={list(values)} must be {STAGES} numbers from 1 on, one per stage")
    channels = [size.embed_dim * 2**stage for stage in range(STAGES)]
    if size.embed_dim < 1 or any(dim % heads for dim, heads in zip(channels, size.num_heads, strict=True)):
        raise ValueError(f"num_heads={list(size.num_heads)} must divide the stages' channels {channels}")
    if window_size < 2:
        raise ValueError(f"window_size={window_size} must be at least 2 tokens, so that windows can shift")
    return size


def check_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    """The wanted stages; ``ValueError`` unless they ascend."""
    strides = ", ".join(f"{stage}: stride {PATCH_SIZE * 2**stage}" for stage in range(STAGES))
    return check_ascending("out_indices", out_indices, STAGES, f"of the stages ({strides})")
