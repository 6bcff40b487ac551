"""Run a toolbox's detector or an exported one, and keep what it computed on the way to its result.

Both paste masks by `torch.nn.functional.grid_sample`, object by object; a recording of its results has the probability
of each pixel, which the result has lost. Objects and semantic logits of Panoptic FPN are recorded where they are
merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from fpn_plugins.inference import Detections, ImagePredictor, PanopticSegments
from fpn_plugins.inference.engines import EnginePredictor
from fpn_plugins.inference.engines import predictor as engine_predictor


class View(NamedTuple):
    """Everything that a detector says about a picture.

    Attributes:
        objects: objects.
        probabilities: probability of each pixel around the box of each object, ``h w``; empty without masks.
        logits: semantic logits ``C H W`` of Panoptic FPN.
        segments: merged segments of Panoptic FPN.
    """

    objects: Detections
    probabilities: list[Tensor]
    logits: Tensor | None = None
    segments: PanopticSegments | None = None

    def probability(self, index: int, pixels: Tensor) -> Tensor:
        """Return the probabilities of ``pixels``, rows and columns ``N 2`` on the picture, of one object's mask."""
        left, top = (max(int(side.floor()) - 1, 0) for side in self.objects.boxes[index, :2])
        places, pasted = pixels - torch.tensor([top, left]), self.probabilities[index]
        inside = ((places >= 0) & (places < torch.tensor(pasted.shape))).all(1)
        result = torch.zeros(len(pixels))  # as the masks are outside of what is pasted
        result[inside] = pasted[places[inside, 0], places[inside, 1]]
        return result


@contextmanager
def recorded(owner: Any, name: str) -> Iterator[list[tuple[Any, Any]]]:
    """Record arguments and result of each call of a function."""
    function, calls = getattr(owner, name), list[tuple[Any, Any]]()

    def record(*args: Any, **options: Any) -> Any:
        calls.append((args, function(*args, **options)))
        return calls[-1][1]

    with mock.patch.object(owner, name, record):
        yield calls


def view(predict: ImagePredictor, photo: Any) -> View:
    """Run a detector on a photograph ``H W 3``.

    Raises:
        ValueError: the masks that were pasted are not those of the objects.
    """
    with recorded(functional, "grid_sample") as pasted:
        found = _panoptic(predict, photo) if predict.is_panoptic else View(predict(photo), [])
    if found.objects.masks is None:
        return found
    if len(pasted) != len(found.objects.scores):
        raise ValueError(f"{len(pasted)} masks were pasted for {len(found.objects.scores)} objects")
    return found._replace(probabilities=[result[0, 0] for _, result in pasted])


def _panoptic(predict: ImagePredictor, photo: Any) -> View:
    if isinstance(predict, EnginePredictor):
        place: tuple[Any, str] = (engine_predictor, "merge_segments")
        read: Callable[[Any, Any], tuple[Detections, Tensor]] = _of_engine
    elif hasattr(predict.model, "panoptic_fusion_head"):
        place, read = (predict.model.panoptic_fusion_head, "predict"), _of_mmdet
    else:
        place, read = (predict, "_outputs"), _of_detectron2
    with recorded(*place) as calls:
        segments = predict.panoptic(photo)
    objects, logits = read(*calls[0])
    return View(objects, [], logits, segments)


def _of_engine(arguments: Any, result: object) -> tuple[Detections, Tensor]:
    return arguments[0], arguments[1]


def _of_mmdet(arguments: Any, result: object) -> tuple[Detections, Tensor]:
    found = arguments[0][0]
    return Detections(found.bboxes, found.scores, found.labels, found.masks.bool()), arguments[1][0]


def _of_detectron2(arguments: object, result: Any) -> tuple[Detections, Tensor]:
    found = result["instances"]
    boxes, masks = found.pred_boxes.tensor, found.pred_masks.bool()
    return Detections(boxes, found.scores, found.pred_classes, masks), result["sem_seg"]


def classes(found: PanopticSegments) -> Tensor:
    """Return the class of each pixel: things from 1, stuff below 0, nothing 0."""
    table = torch.zeros(len(found.segments) + 1, dtype=torch.int64)
    for segment in found.segments:
        table[segment.id] = segment.label + 1 if segment.is_thing else -1 - segment.label
    return table[found.ids]


def panoptic_quality(truth: list[PanopticSegments], found: list[PanopticSegments]) -> float:
    """Return PQ of segmentations, the mean over the classes, with those of another detector as the truth."""
    overlap: dict[tuple[bool, int], list[float]] = {}  # class -> IoU of matched segments, number of all
    for one, other in zip(truth, found, strict=True):
        size = len(other.segments) + 1
        joint = torch.bincount((one.ids * size + other.ids).flatten(), minlength=(len(one.segments) + 1) * size)
        joint = joint.view(-1, size)
        union = joint.sum(1, keepdim=True) + joint.sum(0, keepdim=True) - joint
        for segment in (*one.segments, *other.segments):
            overlap.setdefault((segment.is_thing, segment.label), [0.0, 0.0])[1] += 0.5
        for a in one.segments:
            for b in other.segments:
                iou = float(joint[a.id, b.id] / union[a.id, b.id])
                if (a.is_thing, a.label) == (b.is_thing, b.label) and iou > 0.5:
                    overlap[a.is_thing, a.label][0] += iou
    return sum(matched / number for matched, number in overlap.values()) / len(overlap) if overlap else 1.0
