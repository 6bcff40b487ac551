"""Run mmdet's detectors on arrays, without mmdet's data pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample

from ...inference import Detections, ImagePredictor, PanopticSegments, Segment

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """mmdet detector as a function of an image; for arguments, see `ImagePredictor`."""

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
        sample = self._sample(image)
        if "pred_instances" not in sample:
            raise ValueError(
                f"{type(self.model).__name__} returns no instances but {sorted(sample.keys())}; a Predictor is for "
                "detectors (use mmdet's own inference for the segments of a panoptic one)"
            )
        found = sample.pred_instances.cpu()
        masks = torch.as_tensor(found.masks).bool() if "masks" in found else None
        return Detections(found.bboxes, found.scores, found.labels, masks)

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
        resized, (height, width) = self.resized(image), self.rule.size_of(*image.shape[:2])
        pixels = torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1)  # mmdet's preprocessor expects BGR
        sizes = {
            "ori_shape": image.shape[:2],
            "img_shape": resized.shape[:2],
            "scale_factor": (width / image.shape[1], height / image.shape[0]),
        }
        with torch.no_grad():
            return self.model.test_step({"inputs": [pixels], "data_samples": [DetDataSample(metainfo=sizes)]})[0]
