"""Build the blocks of a plain Vision Transformer from its `ViTDesign`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...checks import integer, integers
from ...weights.resize import resize_positions, tile_positions
from .attention import Attention
from .blocks import EncoderBlock, ResidualBottleneck, SwiGLU, mlp
from .design import ALL_BIASED, ViTDesign
from .sequence import SequenceAttention

WINDOW_SIZE = 14  # tokens: ViTDet's
GLOBAL_BLOCKS = (2, 5, 8, 11)  # ViTDet's for ViT-B


def block_windows(design: ViTDesign, window_size: int | None, global_blocks: Sequence[int] | None) -> list[int]:
    """Return the side of each block's windows in tokens, 0 for blocks that attend over the whole map.

    The arguments are those of `ViT`: ``None`` is ViTDet's choice, or, for a network with a sequence of tokens, no
    windows, and the last block of each quarter.

    Raises:
        TypeError: a value of another type.
        ValueError: a negative size, or blocks that do not exist.
    """
    depth = design.depth
    if window_size is None:
        window_size = 0 if design.sequence else WINDOW_SIZE
    if integer("window_size", window_size) < 0:
        raise ValueError(f"window_size={window_size} must be a number of tokens, or 0 for global attention only")
    if global_blocks is None:
        global_blocks = ends_of_quarters(depth) if design.sequence else GLOBAL_BLOCKS
    attending = chosen_blocks("global_block_indices", global_blocks, depth)
    return [0 if index in attending else window_size for index in range(depth)]


def ends_of_quarters(depth: int) -> list[int]:
    """Return the last block of each quarter of ``depth`` blocks, ascending; fewer for less than four blocks."""
    return sorted({depth * quarter // 4 - 1 for quarter in range(1, 5) if depth * quarter >= 4})


def chosen_blocks(argument: str, indices: Sequence[int], depth: int) -> frozenset[int]:
    """Return ``indices`` as a set; ``ValueError`` unless all are among ``depth`` blocks."""
    chosen = integers(argument, indices, ordered=False)
    outside = [index for index in chosen if not 0 <= index < depth]
    if outside:
        raise ValueError(f"{argument}={list(chosen)}: {outside} are not among the {depth} blocks (0..{depth - 1})")
    return frozenset(chosen)


def residual_block_set(design: ViTDesign, indices: Sequence[int]) -> frozenset[int]:
    """Return ``residual_block_indices`` of `ViT` as a set; ``ValueError`` for a sequence, whose prefix is no map."""
    chosen = chosen_blocks("residual_block_indices", indices, design.depth)
    if chosen and design.sequence:
        raise ValueError(
            f"residual_block_indices={list(indices)} are convolutions on a map, which a named network's sequence of "
            "tokens is not; use global_block_indices"
        )
    return chosen


def token_norm(design: ViTDesign, present: bool) -> nn.Module:
    """Build a norm of the tokens, or, if it is not ``present``, the identity."""
    return nn.LayerNorm(design.embed_dim, design.norm_eps) if present else nn.Identity()


def encoder_block(
    design: ViTDesign, window_size: int, img_size: int, drop_path: float, with_residual: bool = False
) -> EncoderBlock:
    """Build a block.

    Args:
        design: its layers.
        window_size: side of its windows in tokens; 0 for none.
        img_size: side in pixels of the images that the relative positions of a block without windows are made for.
        drop_path: see `EncoderBlock`.
        with_residual: whether a `ResidualBottleneck` follows.
    """
    dim, eps = design.embed_dim, design.norm_eps
    side = window_size or img_size // design.patch_size
    if design.sequence:
        attention: nn.Module = SequenceAttention(design, window_size)
    else:
        rel_pos_size = (side, side) if design.use_rel_pos else None
        attention = Attention(
            dim,
            design.num_heads,
            design.qkv_bias == ALL_BIASED,
            rel_pos_size,
            window_size,
            design.zero_window_padding,
        )
    mlp_eps = eps if design.mlp_norm else None
    feed_forward = (
        SwiGLU(dim, design.hidden_dim, mlp_eps) if design.gated else mlp(dim, design.hidden_dim, mlp_eps, design.gelu)
    )
    residual = ResidualBottleneck(dim, eps) if with_residual else None
    return EncoderBlock(dim, attention, feed_forward, drop_path, eps, residual, design.layer_scale)


def embedding(rows: int, dim: int) -> nn.Parameter | None:
    """Build the embeddings of ``rows`` positions or tokens, ``1 rows dim``; ``None`` without rows."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, rows, dim), std=0.02)) if rows else None


def position_map(design: ViTDesign, table: Tensor, height: int, width: int) -> Tensor:
    """Fit the position embeddings of a square grid, ``1 side*side C``, to a map: ``1 height width C``."""
    if design.tile_positions:
        return tile_positions(table, height, width)
    return resize_positions(table, height, width, design.antialias_positions)
