"""Paste the masks of objects into an image, with the arithmetic of both toolboxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Sample each mask at the pixel centers of its box, bilinearly.

    Args:
        masks: probabilities ``N h w`` inside the boxes.
        boxes: corners ``N 4`` in pixels of the image.
        size: height and width of the image.
        threshold: probability from which on a pixel belongs to the object.

    Returns:
        Booleans ``N H W``.
    """
    pasted = torch.zeros(len(masks), *size, dtype=torch.bool)
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        left, top, right, bottom = box.tolist()
        columns = _range(left, right, size[1])
        rows = _range(top, bottom, size[0])
        x = _relative(columns, box[0], box[2])
        y = _relative(rows, box[1], box[3])
        grid = torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)
        sampled = functional.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        pasted[index, rows.start : rows.stop, columns.start : columns.stop] = sampled >= threshold
    return pasted


def _range(start: float, stop: float, limit: int) -> range:
    """Return the pixels around a side of a box; none of those further away can have a probability."""
    first = min(max(int(start // 1) - 1, 0), limit)
    return range(first, max(first, min(int(-(-stop // 1)) + 1, limit)))


def _relative(pixels: range, start: Tensor, stop: Tensor) -> Tensor:
    """Return centers of pixels relative to a box, from -1 to 1 inside; 0 in a box without extent."""
    centers = torch.arange(pixels.start, pixels.stop, dtype=torch.float32) + 0.5
    return ((centers - start) / (stop - start) * 2 - 1).nan_to_num(0.0, 0.0, 0.0)
