"""Merge the objects and the semantic map of a Panoptic FPN into segments, as each toolbox does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .detections import Detections


class Segment(NamedTuple):
    """One segment of a panoptic segmentation.

    Attributes:
        id: value of its pixels.
        label: class index, of the things or of the stuff.
        is_thing: whether it is an object.
    """

    id: int
    label: int
    is_thing: bool


class PanopticSegments(NamedTuple):
    """Panoptic segmentation of an image.

    Attributes:
        ids: id of each pixel's segment, ``H W``; 0 belongs to none.
        segments: segments.
    """

    ids: Tensor
    segments: list[Segment]


@dataclass(frozen=True)
class PanopticRule:
    """Rule by which a toolbox merges things and stuff.

    Attributes:
        num_stuff: number of stuff classes.
        first_stuff: channel of the first stuff class in the semantic map; 0 in mmdet, and 1 in Detectron2, where
            channel 0 stands for things.
        overlap: share of an object's mask that better objects may cover; with more, it is left out.
        stuff_area: stuff of fewer pixels on an image is left out.
        score: lowest score of an object.
        epsilon: number of pixels added to an object's area before the share is computed; 1e-5 in mmdet.
    """

    num_stuff: int
    first_stuff: int = 0
    overlap: float = 0.5
    stuff_area: int = 4096
    score: float = 0.0
    epsilon: float = 0.0


def merge_segments(detections: Detections, logits: Tensor, rule: PanopticRule) -> PanopticSegments:
    """Lay objects over each other, the best on top, and stuff on the pixels that are left.

    Args:
        detections: objects with masks ``N H W``.
        logits: semantic map ``C H W`` at the size of the masks.
        rule: rule of the toolbox.

    Raises:
        ValueError: the objects have no masks.
    """
    if detections.masks is None:
        raise ValueError("detections have no masks; a panoptic segmentation needs them")
    ids = torch.zeros(logits.shape[-2:], dtype=torch.int64)
    segments: list[Segment] = []
    for index, mask in _laid(detections, ids, rule):
        ids[mask] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, int(detections.labels[index]), True))
    classes = logits.argmax(0)
    for label in range(rule.num_stuff):
        mask = (classes == label + rule.first_stuff) & (ids == 0)
        area = int(mask.sum())
        if area and area >= rule.stuff_area:
            ids[mask] = len(segments) + 1
            segments.append(Segment(len(segments) + 1, label, False))
    return PanopticSegments(ids, segments)


def _laid(detections: Detections, ids: Tensor, rule: PanopticRule) -> Iterator[tuple[int, Tensor]]:
    """Yield the index and the visible mask of each object that is kept; ``ids`` changes between the objects."""
    assert detections.masks is not None
    for index in torch.argsort(-detections.scores).tolist():
        if float(detections.scores[index]) < rule.score:
            return
        mask = detections.masks[index]
        area, taken = int(mask.sum()), ids > 0
        if area and int((mask & taken).sum()) / (area + rule.epsilon) <= rule.overlap:
            yield index, mask & ~taken
