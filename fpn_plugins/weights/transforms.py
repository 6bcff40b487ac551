"""Lossless changes of values between layouts, for the rules of a `KeyMap`."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from .key_map import Transform

# order of the four cells of a 2x2 patch: by columns in Swin's official code, by rows in `nn.Unfold`; its own inverse
_BY_COLUMNS = [0, 2, 1, 3]


def _merging_from_unfold(x: Tensor) -> Tensor:
    by_cell = x.unflatten(-1, (-1, 4)).transpose(-1, -2)  # ..., cell, channel
    return by_cell[..., _BY_COLUMNS, :].flatten(-2)


def _merging_to_unfold(x: Tensor) -> Tensor:
    by_cell = x.unflatten(-1, (4, -1))[..., _BY_COLUMNS, :]
    return by_cell.transpose(-1, -2).flatten(-2)


# input channels of a patch merging layer: mmdet merges with `nn.Unfold`, which puts the channel before the cell
UNFOLD_MERGING = Transform("unfold order", _merging_from_unfold, _merging_to_unfold)


def _positions_to_grid(x: Tensor) -> Tensor:
    if x.dim() == 4:
        return x
    side = math.isqrt(x.shape[1])
    return x.transpose(1, 2).unflatten(2, (side, -1))


def _positions_to_list(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


# position embeddings: a list `1 N C` of a square grid's cells -> a map `1 C H W`
LISTED_POSITIONS = Transform("listed positions", _positions_to_grid, _positions_to_list)

# classes of Panoptic FPN's semantic head: "things" is Detectron2's first channel and mmdet's last
THINGS_LAST = Transform("things first -> last", lambda x: x.roll(-1, 0), lambda x: x.roll(1, 0))


def anchor_order(num_anchors: int, num_ratios: int) -> Transform | None:
    """Reorder a predictor's output channels from size-major to ratio-major anchors; ``None`` if the orders are equal.

    Raises:
        ValueError: ``num_anchors`` is not a multiple of ``num_ratios``.
    """
    if num_anchors == 1:
        return None
    if num_ratios < 1 or num_anchors % num_ratios:
        raise ValueError(
            f"num_ratios={num_ratios} does not divide the {num_anchors} anchors per cell of the checkpoint; "
            "pass the number of aspect ratios that the detector was trained with"
        )
    sizes = num_anchors // num_ratios
    if sizes == 1 or num_ratios == 1:
        return None
    name = f"{sizes} sizes x {num_ratios} ratios of anchors -> ratios x sizes"
    return Transform(name, partial(_transpose, sizes, num_ratios), partial(_transpose, num_ratios, sizes))


def _transpose(outer: int, inner: int, x: Tensor) -> Tensor:
    """Swap the two factors of the first axis; channels within an anchor (classes, box) keep their order."""
    return x.reshape(outer, inner, -1, *x.shape[1:]).transpose(0, 1).reshape(x.shape)
