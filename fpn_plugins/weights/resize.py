"""Parameters that belong to a grid, made to fit another: position embeddings, relative positions, patch filters.

The first two are resized in every forward pass whose grid is not the table's own, and on load where a checkpoint has
another table than the module.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def square_side(count: int, name: str = "pos_embed") -> int:
    """Side of a square grid of ``count`` positions.

    Raises:
        ValueError: no square grid has that many; says what to do.
    """
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(
            f"{name} has {count} positions, which is no square grid: drop the class token's (and any register's) "
            "embedding, or resize the table to a square one first"
        )
    return side


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings of a square grid for a grid of ``height`` x ``width``: bicubic, as in detectron2.

    Args:
        table: ``1 side*side C``, row-major, without a class token.
        height: rows of the wanted grid.
        width: its columns.

    Returns:
        ``1 height width C``, a view of the table where the grid is the same.

    Raises:
        ValueError: a table that is not square.
    """
    side = square_side(table.shape[1])
    grid = table.unflatten(1, (side, side))
    # a trace must not depend on the size; resizing to the same one changes nothing
    if not torch.compiler.is_compiling() and (height, width) == (side, side):
        return grid
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def resize_relative_positions(table: Tensor, length: int) -> Tensor:
    """A table of relative positions, one row per distance, for ``length`` distances: linear, as in detectron2.

    Args:
        table: ``L D``, for the distances ``-(L - 1) / 2 .. (L - 1) / 2``.
        length: the wanted ``L``, ``2 * cells - 1``.

    Returns:
        ``length D``, the table itself where it has that length.
    """
    # a trace must not depend on the size; resizing to the same one changes nothing
    if not torch.compiler.is_compiling() and table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], size=length, mode="linear")[0].t()


def resize_patch_filters(weight: Tensor, size: int) -> Tensor:
    """Filters of a patch embedding for patches of another size, so that resized patches give the same tokens.

    FlexiViT (arXiv:2212.08013, section 3.4): the filters that minimise the difference over all patches, through the
    pseudo-inverse of the (bicubic, antialiased) resizing; exact when the patches grow. Equal to timm's
    ``resample_patch_embed``.

    Args:
        weight: ``C_out C_in side side``.
        size: the wanted side in pixels.

    Returns:
        ``C_out C_in size size``, the filters themselves where they have that size.
    """
    side = weight.shape[-1]
    if side == size:
        return weight
    pixels = torch.eye(side * side).view(side * side, 1, side, side)
    resized = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).flatten(1)  # side^2 size^2
    flat = weight.flatten(2).float() @ torch.linalg.pinv(resized).t()
    return flat.unflatten(2, (size, size)).to(weight.dtype)


def relative_bias_table(table: Tensor, window_size: int) -> Tensor:
    """Swin's biases of relative positions for another window: bicubic, as the official fine-tuning and mmdet do it.

    Args:
        table: ``(2 w - 1)**2 heads``, for windows of ``w x w`` tokens, row-major.
        window_size: the wanted ``w``.

    Returns:
        ``(2 window_size - 1)**2 heads``, the table itself where it has that size.

    Raises:
        ValueError: a table that is not square.
    """
    length = 2 * window_size - 1
    side = square_side(table.shape[0], "relative_position_bias_table")
    if side == length:
        return table
    grid = table.t().unflatten(1, (side, side))[None]  # 1 heads side side
    return F.interpolate(grid, size=(length, length), mode="bicubic", align_corners=False)[0].flatten(1).t()
