"""Select boxes and lanes: greedy and soft non-maximum suppression, groups of suppressed boxes, line NMS.

The sequential algorithms run in NumPy on the CPU, in single precision as mmcv's do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .operator import operator, widened


@operator
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return indices of the boxes ``N 4`` that greedy suppression keeps, by falling score.

    A box is suppressed if its IoU with a kept one is above ``iou_threshold``. With ``offset=1``, ``x2`` and ``y2`` are
    the last pixels inside a box.
    """
    from torchvision.ops import nms as torchvision_nms

    boxes, scores = widened(boxes, scores)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    # torchvision keeps the order of equal scores, mmcv takes that of a sort that is not stable
    order = scores.sort(descending=True).indices
    # mmcv compares in single precision: an IoU of 3/5 is not above a threshold of 0.6
    return order[torchvision_nms(boxes[order], scores[order], float(np.float32(iou_threshold)))]


def _ious(box: np.ndarray, boxes: np.ndarray, offset: int = 0) -> np.ndarray:
    """IoU of a box with boxes ``N 4``; 0 if both are empty."""
    width = np.maximum(np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0]) + offset, 0)
    height = np.maximum(np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1]) + offset, 0)
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    union = area + areas - width * height
    return np.divide(width * height, union, out=np.zeros_like(union), where=union != 0)


def _order_after_removal(kept: np.ndarray) -> np.ndarray:
    """Order in which mmcv holds the kept rows: each removed row is replaced by the last one that is kept.

    It decides which of two boxes with the same score comes first.
    """
    order = np.arange(np.count_nonzero(kept))
    holes = np.flatnonzero(~kept[: len(order)])
    order[holes] = (len(order) + np.flatnonzero(kept[len(order) :]))[::-1]
    return order


@operator
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap better ones; fill ``dets`` ``N 5`` and return the boxes' indices.

    Args:
        boxes: ``N 4``.
        scores: ``N``.
        dets: output; its first rows are boxes and new scores, as many as indices are returned.
        iou_threshold: IoU from which methods 0 and 1 lower a score.
        sigma: width of the Gaussian of method 2.
        min_score: boxes below this score are dropped.
        method: 0 naive (the score becomes 0), 1 linear, 2 Gaussian.
        offset: see `nms`.
    """
    rows = torch.cat([boxes, scores[:, None]], dim=1).float().numpy()  # a copy
    indices: np.ndarray = np.arange(len(rows))
    selected, selected_indices = [], []
    while len(rows):
        best = int(rows[:, 4].argmax())
        rows[[0, best]], indices[[0, best]] = rows[[best, 0]], indices[[best, 0]]
        selected.append(rows[0].copy())
        selected_indices.append(indices[0])
        rows, indices = rows[1:], indices[1:]
        overlap = _ious(selected[-1], rows, offset)
        if method == 2:
            weight = np.exp(-(overlap * overlap) / np.float32(sigma))
        else:
            weight = np.where(overlap >= np.float32(iou_threshold), 1 - overlap if method == 1 else np.float32(0), 1)
        rows[:, 4] *= weight
        order = _order_after_removal(~(rows[:, 4] < np.float32(min_score)))
        rows, indices = rows[order], indices[order]
    if selected:
        dets[: len(selected)] = torch.from_numpy(np.stack(selected))
    return torch.tensor(selected_indices, dtype=torch.long)


@operator
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes with scores ``N 5``: each group is a kept box's index and those of the boxes that it suppresses."""
    rows = dets.float().numpy()
    rest = dets[:, 4].sort(descending=True).indices.numpy()
    groups = []
    while len(rest):
        close = _ious(rows[rest[0]], rows[rest]) >= np.float32(iou_threshold)
        close[0] = True
        groups.append(rest[close].tolist())
        rest = rest[~close]
    return groups


@operator
def line_nms_forward(boxes: Tensor, scores: Tensor, overlap: float, top_k: int) -> list[Tensor]:
    """Keep at most ``top_k`` lanes, by falling score, and suppress those close to a kept one.

    Lanes are close if their offsets differ by less than ``overlap`` on average over the rows that both cross.

    Args:
        boxes: ``N 5+R`` lanes: two scores, the first row as a fraction of the height, the offset there, the number of
            rows, and the offset in each of ``R`` rows.
        scores: ``N``.
        overlap: mean distance below which lanes are close, in units of the offsets.
        top_k: number of lanes to keep.

    Returns:
        Indices of the kept lanes, padded with zeros to ``N``; their number; and for each lane the rank of the kept lane
        that is close to it, counted from 1 (the last one, if several are), 0 if there is none.
    """
    device, lanes = boxes.device, boxes.detach().double().cpu()
    number_of_rows = lanes.shape[1] - 5
    first = (lanes[:, 2] * (number_of_rows - 1) + 0.5).long()
    last = first + lanes[:, 4].long() - 1
    rows = torch.arange(number_of_rows)
    keep = torch.zeros(len(lanes), dtype=torch.long)
    parents = torch.zeros(len(lanes), dtype=torch.long)
    rest = scores.sort(descending=True).indices.cpu()
    removed = torch.zeros(len(lanes), dtype=torch.bool)
    kept = 0
    for place, lane in enumerate(rest.tolist()):
        if removed[lane] or kept == top_k:
            continue
        others = rest[place:]
        start = torch.maximum(first[lane], first[others])
        end = torch.minimum(last[lane], last[others]).clamp(max=number_of_rows - 1)
        common = (rows >= start[:, None]) & (rows <= end[:, None])
        distance = ((lanes[lane, 5:] - lanes[others, 5:]).abs() * common).sum(1)
        close = (end >= start) & (start >= 0) & (distance < overlap * (end - start + 1))
        close[0] = True  # the lane itself
        removed[others[close]] = True
        keep[kept], kept = lane, kept + 1
        parents[others[close]] = kept
    return [keep.to(device), torch.tensor(kept, device=device), parents.to(device)]
