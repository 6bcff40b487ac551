"""Augment an image in a few ways that come again, as a transform of mmdet's pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose

from ...checks import sequence
from ...data import RepeatedRandomness
from ...registry import TRANSFORMS
from .arguments import Cfg


@TRANSFORMS.register_module()
class RepeatedAugmentation(BaseTransform):
    """Run transforms whose random numbers depend on the image and on one of a few variants.

    A frozen backbone with a feature cache then computes every variant of an image once::

        dict(type="fpn_plugins.RepeatedAugmentation", variants=4, transforms=[dict(type="RandomFlip", prob=0.5), ...])

    Args:
        transforms: configs of the transforms; all that are random have to be inside.
        variants: see `fpn_plugins.data.RepeatedRandomness`, like ``seed``.

    Raises:
        TypeError: not a sequence of transforms; also the errors of `fpn_plugins.data.RepeatedRandomness`.
    """

    def __init__(self, transforms: Sequence[Cfg], variants: int = 1, seed: int = 0) -> None:
        self.transforms = Compose(list(sequence("transforms", transforms, "transforms")))
        self.randomness = RepeatedRandomness(variants, seed)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Transform a sample with ``img_id`` or ``img_path``; ``None`` if a transform drops it."""
        with self.randomness.of(results["img_id"] if "img_id" in results else results["img_path"]):
            return self.transforms(results)
