"""Run a detector with test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..checks import boolean, integer
from .detections import Detections
from .predictor import ImagePredictor
from .resizing import ResizeRule
from .views import merge_views

if TYPE_CHECKING:
    import numpy as np


class AugmentedPredictor(ImagePredictor):
    """Predictor that sees each image several times, at several sizes and flipped, and merges what it finds.

    Boxes and masks are merged by `merge_views`. The time is that of as many forward passes as there are views.

    Args:
        predict: predictor of either toolbox, or an exported detector, which keeps the mask of each remaining box.
        sizes: shorter sides of the resized images, in pixels; the limit of the longer side grows in proportion. By
            default, the size of ``predict`` alone.
        flip: add the horizontally flipped view of every size.

    Raises:
        ValueError: a size that is not positive, or sizes for an exported graph that resizes images itself.
    """

    def __init__(self, predict: ImagePredictor, sizes: Sequence[int] = (), flip: bool = True) -> None:
        self.predict, self.model, self.rule, self.reader = predict, predict.model, predict.rule, predict.reader
        self.toolbox = predict.toolbox
        self.rules = [scaled_rule(predict.rule, integer("sizes", size, 1)) for size in sizes] or [predict.rule]
        self.flips: list[str | None] = [None, "horizontal"] if boolean("flip", flip) else [None]

    @property
    def finds_objects(self) -> bool:
        """Whether calling the predictor gives objects."""
        return self.predict.finds_objects

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        views = [self.predict.view(image, rule, flip) for rule in self.rules for flip in self.flips]
        return merge_views(views, image.shape[:2], self.predict.merge_rule).cpu()


def scaled_rule(rule: ResizeRule, short: int) -> ResizeRule:
    """Return a rule with another shorter side, and a limit of the longer side that grows in proportion."""
    sides = rule.exact or ((rule.short, rule.long) if rule.short is not None else (1, 2**31))
    return rule.resized_to(short, max(short, round(short * max(sides) / min(sides))))
