"""Run a built detector on arrays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .detections import Detections
from .panoptic import PanopticSegments
from .pictures import read_image
from .resizing import ResizeRule
from .views import MergeRule, PredictedView, View

if TYPE_CHECKING:
    import numpy as np


class ImagePredictor:
    """Built detector as a function of an image; each toolbox's adapter implements the call.

    Args:
        model: the toolbox's detector; it is set to evaluation mode.
        short: shorter side of the resized image, in pixels.
        long: limit of the longer side of the resized image, in pixels.
        rule: rule by which images are resized, in place of ``short`` and ``long``.
        reader: reader of image files, `fpn_plugins.data.PixelReader`; images then have its channels, in its order, and
            ``None`` is `read_image`.
    """

    reader: Any = None
    toolbox: str | None = None  # by which files are read; see `read_image`

    def __init__(
        self, model: Any, short: int = 800, long: int = 1333, rule: ResizeRule | None = None, reader: Any = None
    ) -> None:
        self.model, self.reader = model.eval(), reader
        self.rule = rule or ResizeRule(short, long)

    def read(self, path: str | os.PathLike[str], toolbox: str | None = None) -> np.ndarray:
        """Read an image file for this detector, by default as its toolbox does; see `read_image` for the errors."""
        pixels: np.ndarray = self.reader(path) if self.reader is not None else read_image(path, toolbox or self.toolbox)
        return pixels

    def resized(self, image: np.ndarray) -> np.ndarray:
        """Resize an image ``H W C`` for the detector; ``ValueError`` for other channels than its own."""
        channels = 3 if self.reader is None else self.reader.in_chans
        if image.ndim != 3 or image.shape[2] != channels:
            expected = "H W 3, RGB" if self.reader is None else f"H W {channels}, as the predictor's read returns it"
            raise ValueError(f"image of shape {image.shape}: expected {expected}")
        return self.rule.resize(image)

    @property
    def is_panoptic(self) -> bool:
        """Whether `panoptic` segments things and stuff."""
        return False

    @property
    def finds_objects(self) -> bool:
        """Whether calling the predictor gives objects; mmdet's panoptic detectors give merged segments alone."""
        return True

    @property
    def merge_rule(self) -> MergeRule:
        """Rule by which detections on several views are merged: the detector's own thresholds."""
        return MergeRule()

    def view(self, image: np.ndarray, rule: ResizeRule, flip: str | None = None) -> View:
        """Return a `View` of an image ``H W 3``, RGB, 0..255, resized by a rule and flipped."""
        return PredictedView(self, image, rule, flip)

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")

    def panoptic(self, image: np.ndarray) -> PanopticSegments:
        """Segment things and stuff on an image ``H W 3``, RGB, 0..255; ``ValueError`` without a semantic head."""
        raise ValueError(f"{type(self.model).__name__} has no semantic head; call the predictor for its objects")
