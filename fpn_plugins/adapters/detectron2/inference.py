"""Run Detectron2's detectors, built from YAML or LazyConfig, on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...inference import Detections, ImagePredictor
from .compatibility import channel_order

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """Detectron2 detector as a function of an image; for arguments, see `ImagePredictor`."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on ``H W 3``, RGB, 0..255."""
        resized = self.resized(image)
        if channel_order(self.model) == "BGR":
            resized = resized[..., ::-1]
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        with torch.no_grad():
            outputs = self.model([{"image": pixels, "height": image.shape[0], "width": image.shape[1]}])[0]
        found = outputs["instances"].to("cpu")
        masks = found.pred_masks.bool() if found.has("pred_masks") else None
        return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks)
