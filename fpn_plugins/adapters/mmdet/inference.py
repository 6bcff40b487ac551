"""Run mmdet's detectors on arrays, without mmdet's data pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmdet.structures import DetDataSample

from ...inference import Detections, ImagePredictor

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """mmdet detector as a function of an image; for arguments, see `ImagePredictor`."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on ``H W 3``, RGB, 0..255; ``ValueError`` if the model returns no instances."""
        resized, (height, width) = self.resized(image), self.rule.size_of(*image.shape[:2])
        pixels = torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1)  # mmdet's preprocessor expects BGR
        sizes = {
            "ori_shape": image.shape[:2],
            "img_shape": resized.shape[:2],
            "scale_factor": (width / image.shape[1], height / image.shape[0]),
        }
        with torch.no_grad():
            sample = self.model.test_step({"inputs": [pixels], "data_samples": [DetDataSample(metainfo=sizes)]})[0]
        if "pred_instances" not in sample:
            raise ValueError(
                f"{type(self.model).__name__} returns no instances but {sorted(sample.keys())}; a Predictor is for "
                "detectors (use mmdet's own inference for the segments of a panoptic one)"
            )
        found = sample.pred_instances.cpu()
        masks = torch.as_tensor(found.masks).bool() if "masks" in found else None
        return Detections(found.bboxes, found.scores, found.labels, masks)
