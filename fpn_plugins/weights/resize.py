"""Resize parameters that belong to a grid: position embeddings, relative positions, patch filters.

Position embeddings and relative positions are resized in each forward pass on another grid than the table's, and on
loading a table of another size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import compiling

PATCHES = "patch_embed.proj.weight"  # filters of a plain ViT's patches


def square_side(count: int, name: str = "pos_embed") -> int:
    """Return the side of a square grid of ``count`` positions; ``ValueError`` if there is none."""
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(
            f"{name} has {count} positions, which do not form a square grid: drop the class token's (and any "
            "register's) embedding, or resize the table to a square one first"
        )
    return side


def resize_positions(table: Tensor, height: int, width: int, antialias: bool = False) -> Tensor:
    """Resize position embeddings of a square grid to ``height x width``: bicubic, as in detectron2.

    Args:
        table: ``1 side*side C``, row-major, without a class token.
        height: rows of the target grid.
        width: columns of the target grid.
        antialias: low-pass before shrinking, and compute in single precision, as in timm.

    Returns:
        ``1 height width C``, a view of the table if the grid is the same.

    Raises:
        ValueError: the table is not square.
    """
    side = square_side(table.shape[1])
    grid = table.unflatten(1, (side, side))
    # a trace must not depend on the size; resizing to the same size changes nothing
    if not compiling() and (height, width) == (side, side):
        return grid
    grid = grid.float() if antialias else grid
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=antialias)
    return resized.permute(0, 2, 3, 1).to(table.dtype)


def tile_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Repeat position embeddings of a square grid to ``height x width``, cut off at the lower and right border.

    Arguments, result and errors are those of `resize_positions`. Windows of the grid's size then have the positions of
    an image each, as in the Perception Encoder's detectors.
    """
    side = square_side(table.shape[1])
    grid = table.unflatten(1, (side, side))
    rows, columns = (torch.arange(length, device=table.device) % side for length in (height, width))
    return grid[:, rows][:, :, columns]


def resize_relative_positions(table: Tensor, length: int) -> Tensor:
    """Resize a table of relative positions, one row per distance, to ``length`` rows: linear, as in detectron2.

    Args:
        table: ``L D``, for the distances ``-(L - 1) / 2 .. (L - 1) / 2``; returned unchanged if ``L = length``.
        length: target ``L``, ``2 * cells - 1``.
    """
    if not compiling() and table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], size=length, mode="linear")[0].t()


def are_filters(weight: Tensor, wanted: Tensor) -> bool:
    """Return whether ``weight`` has square filters of the same channels as ``wanted``, of any size."""
    return weight.dim() == 4 and weight.shape[:2] == wanted.shape[:2] and weight.shape[2] == weight.shape[3]


def resize_patch_filters(weight: Tensor, size: int) -> Tensor:
    """Resize the filters of a patch embedding so that resized patches give the same tokens.

    FlexiViT (arXiv:2212.08013, section 3.4): the pseudo-inverse of the (bicubic, antialiased) resizing gives the
    filters that minimize the difference over all patches; exact when the patches grow. Matches timm's
    ``resample_patch_embed``.

    Args:
        weight: ``C_out C_in side side``; returned unchanged if ``side = size``.
        size: target side in pixels.
    """
    side = weight.shape[-1]
    if side == size:
        return weight
    pixels = torch.eye(side * side).view(side * side, 1, side, side)
    resized = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).flatten(1)  # side^2 size^2
    flat = weight.flatten(2).float() @ torch.linalg.pinv(resized).t()
    return flat.unflatten(2, (size, size)).to(weight.dtype)


def relative_bias_table(table: Tensor, window_size: int) -> Tensor:
    """Resize Swin's biases of relative positions to another window: bicubic, as in official fine-tuning and mmdet.

    Args:
        table: ``(2 w - 1)**2 heads``, for windows of ``w x w`` tokens, row-major; returned unchanged if
            ``w = window_size``.
        window_size: target ``w``.

    Raises:
        ValueError: the table is not square.
    """
    length = 2 * window_size - 1
    side = square_side(table.shape[0], "relative_position_bias_table")
    if side == length:
        return table
    grid = table.t().unflatten(1, (side, side))[None]  # 1 heads side side
    return F.interpolate(grid, size=(length, length), mode="bicubic", align_corners=False)[0].flatten(1).t()
