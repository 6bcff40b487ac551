"""Run mmdet's detectors on arrays, without mmdet's data pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from torch import Tensor

from ...inference import Detections, ImagePredictor, MergeRule, PanopticSegments, ResizeRule, Segment, View
from ...inference.views import flip_image
from .views import DetectorView, detections_of, merge_rule_of

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """mmdet detector as a function of an image; for arguments, see `ImagePredictor`."""

    toolbox = "mmdet"

    @property
    def is_panoptic(self) -> bool:
        """Whether `panoptic` segments things and stuff."""
        return hasattr(self.model, "panoptic_fusion_head")

    @property
    def finds_objects(self) -> bool:
        """Whether calling the predictor gives objects."""
        return not self.is_panoptic

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on ``H W 3``, RGB, 0..255; ``ValueError`` if the model returns no instances."""
        return detections_of(self.model, self._sample(image)).cpu()

    @property
    def merge_rule(self) -> MergeRule:
        """Rule by which detections on several views are merged."""
        return merge_rule_of(self.model)

    def view(self, image: np.ndarray, rule: ResizeRule, flip: str | None = None) -> View:
        """Return a `View` of ``H W 3``, RGB, 0..255; it is padded after the flip."""
        resized = flip_image(rule.scale(image), flip)
        resized = rule.padding.pad(resized) if rule.padding else resized
        return DetectorView(self.model, *self._prepared(image, resized, rule, flip))

    def panoptic(self, image: np.ndarray) -> PanopticSegments:
        """Segment things and stuff on ``H W 3``, RGB, 0..255; ``ValueError`` without a panoptic head."""
        if not self.is_panoptic:
            return super().panoptic(image)
        fusion = self.model.panoptic_fusion_head
        found = self._sample(image).pred_panoptic_seg.sem_seg[0].long().cpu()
        ids, segments = torch.zeros_like(found), list[Segment]()
        for value in found.unique().tolist():
            label = value % INSTANCE_OFFSET
            if label < fusion.num_classes:  # the next number is void
                number, stuff = len(segments) + 1, label - fusion.num_things_classes
                ids[found == value] = number
                segments.append(Segment(number, label if stuff < 0 else stuff, stuff < 0))
        return PanopticSegments(ids, segments)

    def _sample(self, image: np.ndarray) -> DetDataSample:
        """Run the model on an image."""
        pixels, sample = self._prepared(image, self.resized(image), self.rule)
        with torch.no_grad():
            return self.model.test_step({"inputs": [pixels], "data_samples": [sample]})[0]

    def _prepared(
        self, image: np.ndarray, resized: np.ndarray, rule: ResizeRule, flip: str | None = None
    ) -> tuple[Tensor, DetDataSample]:
        """Return what mmdet's test pipeline gives for an image that has been resized and flipped."""
        height, width = rule.size_of(*image.shape[:2])
        if self.reader is None:  # mmdet's preprocessor expects BGR
            resized = resized[..., ::-1]
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        sizes = {
            "ori_shape": image.shape[:2],
            "img_shape": resized.shape[:2],
            "scale_factor": (width / image.shape[1], height / image.shape[0]),
            "flip": flip is not None,
            "flip_direction": flip,
        }
        return pixels, DetDataSample(metainfo=sizes)
