"""Names and sizes of the published Swin Transformers."""

from __future__ import annotations

from typing import NamedTuple

from ...checks import one_of, positive_int
from ...weights.maps.swin import STAGES

PATCH_SIZE = 4  # pixels


class SwinSize(NamedTuple):
    """Channels of the first stage, blocks and heads of each stage, and side of the windows in tokens."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int


# arXiv:2103.14030, section 3.3; heads have 32 channels
_SIZES = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
# timm's names
MODELS = {f"swin_{size}_patch4_window7_224": SwinSize(*_SIZES[size], 7) for size in _SIZES}
MODELS |= {f"swin_{size}_patch4_window12_384": SwinSize(*_SIZES[size], 12) for size in ("base", "large")}


def published_size(name: str) -> SwinSize:
    """Look up the size of the network that timm calls ``name``, with or without a tag.

    Raises:
        ValueError: unknown name (suggests near names).
    """
    return MODELS[one_of("name", name.split(".")[0], MODELS)]


def check_size(size: SwinSize) -> SwinSize:
    """Return the size, or raise ``ValueError`` if no network of four stages can have it."""
    positive_int("embed_dim", size.embed_dim)
    for argument in ("depths", "num_heads"):
        values = getattr(size, argument)
        if len(values) != STAGES or min(values) < 1:
            raise ValueError(f"{argument}={list(values)} must be {STAGES} numbers of at least 1, one per stage")
    if size.window_size < 2:
        raise ValueError(f"window_size={size.window_size} must be at least 2 tokens, so that windows can shift")
    return size
