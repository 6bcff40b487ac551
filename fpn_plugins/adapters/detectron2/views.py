"""Run Detectron2's detectors on several views of an image, with masks at the merged boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ...checks import boolean, integer, integers
from ...inference import Detections, MergeRule, View, merge_views
from ...inference.views import flip_image


class DetectorView(View):
    """View of a Detectron2 detector.

    Args:
        model: the detector.
        pixels: image ``C H W``, resized and flipped, in the model's order of channels.
        size: height and width of the original image.
        flip: see `View`.
    """

    def __init__(self, model: Any, pixels: Tensor, size: tuple[int, int], flip: str | None = None) -> None:
        super().__init__(flip)
        self.model, self.pixels, self.size = model, pixels, size
        self.maps: Any = None

    def detect(self) -> Detections:
        """Detect objects."""
        height, width = self.size
        sample = {"image": self.pixels, "height": height, "width": width}
        if not isinstance(self.model, GeneralizedRCNN):
            return detections_of(self.model([sample])[0]["instances"])
        if self.model.proposal_generator is None:
            raise ValueError("views of a detector with precomputed proposals cannot be merged; use one with an RPN")
        images = self.model.preprocess_image([sample])
        self.maps = self.model.backbone(images.tensor)
        proposals, _ = self.model.proposal_generator(images, self.maps, None)
        with boxes_alone(self.model.roi_heads):
            found, _ = self.model.roi_heads(images, self.maps, proposals, None)
        return detections_of(detector_postprocess(found[0], height, width))

    def mask_cells(self, boxes: Tensor, labels: Tensor) -> Tensor | None:
        """Predict mask probabilities of boxes."""
        if self.maps is None or not getattr(self.model.roi_heads, "mask_on", False):
            return None
        height, width = self.pixels.shape[-2:]
        instances = Instances((height, width), pred_boxes=Boxes(boxes.clone()), pred_classes=labels)
        instances.pred_boxes.scale(width / self.size[1], height / self.size[0])
        with boxes_alone(self.model.roi_heads, ("keypoint_on",)):
            found = self.model.roi_heads.forward_with_given_boxes(self.maps, [instances])[0]
        cells: Tensor = found.pred_masks[:, 0]
        return cells


@contextmanager
def boxes_alone(heads: Any, switches: Sequence[str] = ("mask_on", "keypoint_on")) -> Iterator[None]:
    """Switch heads of regions off."""
    before = {name: getattr(heads, name) for name in switches if hasattr(heads, name)}
    try:
        for name in before:
            setattr(heads, name, False)
        yield
    finally:
        for name, value in before.items():
            setattr(heads, name, value)


def detections_of(found: Instances) -> Detections:
    """Return instances as detections."""
    masks = found.pred_masks.bool() if found.has("pred_masks") else None
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks)


def merge_rule_of(model: Any) -> MergeRule:
    """Read a detector's thresholds; those of `MergeRule` where it has none."""
    owner = getattr(getattr(model, "roi_heads", None), "box_predictor", model)
    owner = owner[-1] if isinstance(owner, nn.ModuleList) else owner
    limit = getattr(owner, "test_topk_per_image", getattr(owner, "max_detections_per_image", None))
    rule = MergeRule(getattr(owner, "test_nms_thresh", MergeRule().iou_threshold))
    return rule if limit is None else rule._replace(limit=limit)


class DetectorWithTTA(nn.Module):
    """Detector with test-time augmentation, of the same interface as the detector in evaluation.

    Like Detectron2's ``GeneralizedRCNNWithTTA``, for every detector with boxes, built from YAML or LazyConfig:
    RetinaNet and FCOS too. Thresholds are the detector's own. Unlike there, images are never batched, so that padding
    does not change them, and the backbone runs once per view.

    Args:
        model: detector, or a ``DistributedDataParallel`` around it.
        min_sizes: shorter sides of the resized images, in pixels (``TEST.AUG.MIN_SIZES``); by default, images keep the
            size that they come with.
        max_size: limit of the longer side (``TEST.AUG.MAX_SIZE``).
        flip: add the horizontally flipped view of every size (``TEST.AUG.FLIP``).

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, model: Any, min_sizes: Sequence[int] = (), max_size: int = 4000, flip: bool = True) -> None:
        super().__init__()
        self.model = getattr(model, "module", model)
        self.training = self.model.training  # which evaluators restore
        self.min_sizes = integers("min_sizes", min_sizes, 1)
        self.max_size, self.flip = integer("max_size", max_size, 1), boolean("flip", flip)

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects; inputs as Detectron2's detectors take them, ``image`` best in its original size."""
        return [{"instances": self._merged(sample)} for sample in batched_inputs]

    def _merged(self, sample: Mapping[str, Any]) -> Instances:
        height, width = (
            sample.get(name, side) for name, side in zip(("height", "width"), sample["image"].shape[1:], strict=True)
        )
        views = list(self._views(sample["image"], (height, width)))
        found = merge_views(views, (height, width), merge_rule_of(self.model))
        result = Instances(
            (height, width), pred_boxes=Boxes(found.boxes), scores=found.scores, pred_classes=found.labels
        )
        if found.masks is not None:
            result.pred_masks = found.masks
        return result

    def _views(self, image: Tensor, size: tuple[int, int]) -> Iterator[DetectorView]:
        pixels = image.permute(1, 2, 0).cpu().numpy()
        for short in self.min_sizes or (None,):
            resized = pixels
            if short is not None:
                resized = ResizeShortestEdge(short, self.max_size).get_transform(pixels).apply_image(pixels)
            for flip in (None, "horizontal") if self.flip else (None,):
                turned = np.ascontiguousarray(flip_image(resized, flip).transpose(2, 0, 1))
                yield DetectorView(self.model, torch.from_numpy(turned), size, flip)
