"""Inference with Detectron2's detectors on arrays, of YAML configs and LazyConfig alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...inference import Detections, resize_shortest
from .facts import channel_order

if TYPE_CHECKING:
    import numpy as np


class Predictor:
    """A built detector as a function of an image.

    Args:
        model: a Detectron2 detector; it is put into evaluation mode.
        short: shorter side of the image in pixels, after resizing.
        long: the most that its longer side may have.
    """

    def __init__(self, model: Any, short: int = 800, long: int = 1333) -> None:
        self.model = model.eval()
        self.short, self.long = short, long

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect on ``H W 3``, RGB, 0..255."""
        resized = resize_shortest(image, self.short, self.long)
        if channel_order(self.model) == "BGR":
            resized = resized[..., ::-1]
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        with torch.no_grad():
            outputs = self.model([{"image": pixels, "height": image.shape[0], "width": image.shape[1]}])[0]
        found = outputs["instances"].to("cpu")
        masks = found.pred_masks.bool() if found.has("pred_masks") else None
        return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks)
