"""Run Detectron2's detectors, built from YAML or LazyConfig, on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...inference import Detections, ImagePredictor, PanopticSegments, Segment
from .compatibility import channel_order

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """Detectron2 detector as a function of an image; for arguments, see `ImagePredictor`."""

    @property
    def is_panoptic(self) -> bool:
        """Whether `panoptic` segments things and stuff."""
        return hasattr(self.model, "combine_overlap_thresh")

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on ``H W 3``, RGB, 0..255."""
        found = self._outputs(image)["instances"].to("cpu")
        masks = found.pred_masks.bool() if found.has("pred_masks") else None
        return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks)

    def panoptic(self, image: np.ndarray) -> PanopticSegments:
        """Segment things and stuff on ``H W 3``, RGB, 0..255; ``ValueError`` without a semantic head."""
        if not self.is_panoptic:
            return super().panoptic(image)
        ids, found = self._outputs(image)["panoptic_seg"]
        segments = []
        for entry in found:  # stuff is numbered from 1; 0 stands for things
            label = entry["category_id"] - (0 if entry["isthing"] else 1)
            segments.append(Segment(entry["id"], label, entry["isthing"]))
        return PanopticSegments(ids.long().cpu(), segments)

    def _outputs(self, image: np.ndarray) -> dict[str, Any]:
        """Run the model on an image."""
        resized = self.resized(image)
        if channel_order(self.model) == "BGR":
            resized = resized[..., ::-1]
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        with torch.no_grad():
            return self.model([{"image": pixels, "height": image.shape[0], "width": image.shape[1]}])[0]
