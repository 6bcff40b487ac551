"""Run Detectron2's detectors, built from YAML or LazyConfig, on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...inference import Detections, ImagePredictor, MergeRule, PanopticSegments, ResizeRule, Segment, View
from ...inference.views import flip_image
from .compatibility import channel_order
from .views import DetectorView, detections_of, merge_rule_of

if TYPE_CHECKING:
    import numpy as np


class Predictor(ImagePredictor):
    """Detectron2 detector as a function of an image; for arguments, see `ImagePredictor`."""

    toolbox = "detectron2"

    @property
    def is_panoptic(self) -> bool:
        """Whether `panoptic` segments things and stuff."""
        return hasattr(self.model, "combine_overlap_thresh")

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on ``H W 3``, RGB, 0..255."""
        return detections_of(self._outputs(image)["instances"]).cpu()

    @property
    def merge_rule(self) -> MergeRule:
        """Rule by which detections on several views are merged."""
        return merge_rule_of(self.model)

    def view(self, image: np.ndarray, rule: ResizeRule, flip: str | None = None) -> View:
        """Return a `View` of ``H W 3``, RGB, 0..255."""
        return DetectorView(self.model, self._pixels(flip_image(rule.resize(image), flip)), image.shape[:2], flip)

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
        sample = {"image": self._pixels(self.resized(image)), "height": image.shape[0], "width": image.shape[1]}
        with torch.no_grad():
            return self.model([sample])[0]

    def _pixels(self, resized: np.ndarray) -> Tensor:
        """Return ``C H W`` in the model's order of channels."""
        if channel_order(self.model) == "BGR" and self.reader is None:
            resized = resized[..., ::-1]
        return torch.from_numpy(resized.copy()).permute(2, 0, 1)
