"""Select candidates: the best per level, and those that non-maximum suppression leaves per image.

Numbers of candidates differ from image to image, and export has no loop over images. Therefore the images of a batch
are suppressed in one call, moved apart so that they do not overlap, and the selected ones are counted per image
afterward.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..compat import exporting
from ..extras import needed_for
from .boxes import quotients

NOTHING = float("-inf")  # score of a place that no candidate fills


_MOST = 2**31 - 1  # objects, proposals or candidates


def bounded(indices: Tensor) -> Tensor:
    """Return indices whose number depends on values; recorded programs learn that it is below 2**31.

    Sizes that ``torch.export`` computes from it then stay within 64 bits, which ONNX needs.
    """
    if exporting():
        torch._check(indices.shape[0] <= _MOST)
    return indices


def positions(chosen: Tensor) -> Tensor:
    """Return the indices of the true entries of ``N`` booleans; TensorRT looks for them in floats."""
    return bounded(chosen.float().nonzero().squeeze(1))


def best(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores ``B number`` of ``B N`` and their indices, falling; equal scores by rising index.

    Where ``N`` is smaller than ``number``, the remaining scores are `NOTHING`, with index 0.
    """
    values, indices = F.pad(scores, (0, number), value=NOTHING).topk(number, dim=1)
    indices, order = indices.sort(dim=1)  # topk leaves the order of equal scores open, the toolboxes' sort does not
    values, again = _falling(values.gather(1, order))
    indices = indices.gather(1, again)
    return values, torch.where(values == NOTHING, torch.zeros_like(indices), indices)


def _falling(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row of ``B N``; equal values keep their order.

    ONNX export has no stable sort: recorded programs leave it to the engine, of which onnxruntime keeps the order.
    """
    if exporting():
        return values.sort(dim=1, descending=True)
    return values.sort(dim=1, descending=True, stable=True)


def best_pairs(logits: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best pairs of anchor and class of ``B N C``: sigmoid scores, anchors and classes, each ``B number``.

    The anchors of the best pairs are among the anchors with the best class, so that scores are computed for these
    alone.
    """
    classes = logits.shape[2]
    tops, anchors = best(logits.amax(2), number)
    rows = logits.gather(1, anchors[..., None].expand(-1, -1, classes))
    scores = rows.sigmoid().masked_fill((tops == NOTHING)[..., None], NOTHING)
    # in the order of the anchors, so that equal scores come in the toolboxes' order
    anchors, order = anchors.sort(dim=1)
    scores = scores.gather(1, order[..., None].expand(-1, -1, classes)).flatten(1)
    values, pairs = best(scores, number)
    rows = quotients(pairs, classes)
    return values, anchors.gather(1, rows), pairs - rows * classes


def suppressed(
    boxes: Tensor, scores: Tensor, groups: Tensor, images: Tensor, batch: int, threshold: float, limit: int
) -> Tensor:
    """Return the indices of the boxes that non-maximum suppression keeps, image by image, by falling score.

    Args:
        boxes: corners ``N 4``.
        scores: ``N``.
        groups: class or level ``N`` of each box; only boxes of a group suppress each other.
        images: index ``N`` of each box's image.
        batch: number of images.
        threshold: a box is dropped if its IoU with a better one is higher.
        limit: highest number of boxes per image.
    """
    with needed_for("exportable detectors"):
        import torchvision  # noqa: F401  (registers the operator)

    extent = torch.cat([boxes.flatten(), boxes.new_zeros(1)])
    span = extent.amax(0) - extent.amin(0) + 1
    # the toolboxes move a group along the diagonal; images are moved apart in x alone, the first one is not moved
    moves = torch.stack([groups + images, groups], 1).to(boxes.dtype) * span
    kept = bounded(torch.ops.torchvision.nms(boxes + moves.repeat(1, 2), scores, threshold))
    return kept[_first_per_image(images[kept], batch, limit)]


def _first_per_image(images: Tensor, batch: int, limit: int) -> Tensor:
    """Return the indices of the first ``limit`` entries of each image, image by image."""
    hits = (images[:, None] == torch.arange(batch, device=images.device)).float()  # TensorRT sums no integers up
    ranks = (hits.cumsum(0) * hits).sum(1).to(torch.int64) - 1
    slots = torch.where(ranks < limit, images * limit + ranks, batch * limit)
    table = torch.full((batch * limit + 1,), -1, dtype=torch.int64, device=images.device)
    table = table.scatter(0, slots, torch.arange(images.shape[0], device=images.device))[:-1]
    return table[positions(table >= 0)]
