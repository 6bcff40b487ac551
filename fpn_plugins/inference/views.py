"""Merge detections on several views of an image: test-time augmentation, alike in both toolboxes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..checks import one_of
from ..extras import needed_for
from .detections import Detections
from .pasting import paste_masks
from .resizing import ResizeRule

if TYPE_CHECKING:
    import numpy as np

DIRECTIONS = ("horizontal", "vertical", "diagonal")  # mmdet's names
# direction -> reversed dimensions of ``... H W``
FLIPS: dict[str | None, tuple[int, ...]] = dict(zip((None, *DIRECTIONS), ((), (-1,), (-2,), (-2, -1)), strict=True))


class MergeRule(NamedTuple):
    """Rule by which detections on several views are merged.

    Attributes:
        iou_threshold: IoU above which the lower-scored of two boxes of a class is dropped.
        limit: largest number of detections per image.
        mask_threshold: averaged probability from which on a pixel belongs to an object.
    """

    iou_threshold: float = 0.5
    limit: int = 100
    mask_threshold: float = 0.5


class View:
    """Image as a detector sees it in one forward pass: resized, and flipped or not.

    Args:
        flip: ``None``, ``"horizontal"``, ``"vertical"`` or ``"diagonal"`` (both).

    Raises:
        ValueError: another ``flip``.
    """

    def __init__(self, flip: str | None = None) -> None:
        self.flip = None if flip is None else one_of("flip", flip, DIRECTIONS)

    def detect(self) -> Detections:
        """Detect objects; boxes are in pixels of the original image, flipped as the view is.

        Masks ``N H W``, flipped likewise, are needed only if `mask_cells` returns ``None``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement detect")

    def mask_cells(self, boxes: Tensor, labels: Tensor) -> Tensor | None:
        """Predict mask probabilities ``N h w`` of the cells of given boxes, after `detect`.

        Args:
            boxes: corners ``N 4`` in pixels of the original image, flipped as the view is.
            labels: class indices ``N``.

        Returns:
            ``None`` if the detector has no head that predicts masks of given boxes.
        """
        return None


class PredictedView(View):
    """View of a predictor of any kind, such as an exported detector.

    Args:
        predict: an `ImagePredictor`; it is copied.
        image: ``H W 3``, RGB, 0..255.
        rule: rule by which the image is resized.
        flip: see `View`.
    """

    def __init__(self, predict: Any, image: np.ndarray, rule: ResizeRule, flip: str | None = None) -> None:
        super().__init__(flip)
        self.predict, self.image = copy.copy(predict), flip_image(image, flip)
        self.predict.rule = rule

    def detect(self) -> Detections:
        """Detect objects."""
        found: Detections = self.predict(self.image)
        return found


def flip_image(image: np.ndarray, flip: str | None) -> np.ndarray:
    """Flip an image ``H W C``; ``flip`` as in `View`."""
    with needed_for("images"):
        import numpy as np

    axes = [dim + 2 for dim in FLIPS[flip]]
    return np.ascontiguousarray(np.flip(image, axes)) if axes else image


def flip_boxes(boxes: Tensor, flip: str | None, size: tuple[int, int]) -> Tensor:
    """Flip corners ``N 4`` in an image of a size (height, width); ``flip`` as in `View`."""
    for dim in FLIPS[flip]:
        corners = boxes.clone()
        start, stop = (0, 2) if dim == -1 else (1, 3)
        corners[:, start], corners[:, stop] = size[dim] - boxes[:, stop], size[dim] - boxes[:, start]
        boxes = corners
    return boxes


@torch.no_grad()
def merge_views(views: Sequence[View], size: tuple[int, int], rule: MergeRule) -> Detections:
    """Detect objects on every view, and merge them.

    Boxes of all views go through one non-maximum suppression per class, as in both toolboxes. Masks are predicted at
    the boxes that remain, in every view, and their probabilities are averaged, as in Detectron2. A detector without a
    head for that keeps the mask that it predicted with the box.

    Args:
        views: views of one image; a view keeps its features until this function returns.
        size: height and width of the original image.
        rule: thresholds.

    Returns:
        Detections on the original image, by falling score, on the device of the views' boxes.

    Raises:
        ValueError: no view.
    """
    if not views:
        raise ValueError("views is empty; give at least one view of the image")
    with needed_for("merged views"):
        from torchvision.ops import batched_nms

    found = [view.detect() for view in views]
    boxes = torch.cat([flip_boxes(one.boxes, view.flip, size) for one, view in zip(found, views, strict=True)])
    scores, labels = (torch.cat([getattr(one, name) for one in found]) for name in ("scores", "labels"))
    kept = batched_nms(boxes.float(), scores.float(), labels, rule.iou_threshold)[: rule.limit]
    merged = Detections(boxes[kept], scores[kept], labels[kept])
    if found[0].masks is None:
        return merged._replace(masks=_averaged(views, merged, size, rule))
    masks = [one.masks.flip(FLIPS[view.flip]) for one, view in zip(found, views, strict=True) if one.masks is not None]
    return merged._replace(masks=torch.cat(masks)[kept])


def _averaged(views: Sequence[View], merged: Detections, size: tuple[int, int], rule: MergeRule) -> Tensor | None:
    """Average the mask probabilities of all views, and paste them into the image."""
    cells = []
    for view in views:
        found = view.mask_cells(flip_boxes(merged.boxes, view.flip, size), merged.labels)
        if found is None:
            return None
        cells.append(found.float().flip(FLIPS[view.flip]))
    average = torch.stack(cells).mean(0).cpu()
    return paste_masks(average, merged.boxes.float().cpu(), size, rule.mask_threshold).to(merged.boxes.device)
