"""Inference with mmdet's detectors on arrays, without mmdet's data pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmdet.structures import DetDataSample

from ...inference import Detections, ImagePredictor

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """mmdet detector as a function of an image; arguments as of `ImagePredictor`."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect on ``H W 3``, RGB, 0..255; ``ValueError`` if the model returns no instances."""
        resized = self.resized(image)
        pixels = torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1)  # mmdet's preprocessor expects BGR
        sizes = {
            "ori_shape": image.shape[:2],
            "img_shape": resized.shape[:2],
            "scale_factor": (resized.shape[1] / image.shape[1], resized.shape[0] / image.shape[0]),
        }
        with torch.no_grad():
            sample = self.model.test_step({"inputs": [pixels], "data_samples": [DetDataSample(metainfo=sizes)]})[0]
        if "pred_instances" not in sample:
            raise ValueError(
                f"{type(self.model).__name__} returns no instances but {sorted(sample.keys())}; a Predictor is for "
                "detectors (of a panoptic one, mmdet's own inference shows the segments)"
            )
        found = sample.pred_instances
        return Detections(found.bboxes.cpu(), found.scores.cpu(), found.labels.cpu(), _masks(found))


def _masks(found: Any) -> torch.Tensor | None:
    return torch.as_tensor(found.masks).bool().cpu() if "masks" in found else None
