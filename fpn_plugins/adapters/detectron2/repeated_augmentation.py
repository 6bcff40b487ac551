"""Augment an image in a few ways that come again, around Detectron2's mapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...data import RepeatedRandomness


class RepeatedAugmentation:
    """Call a mapper whose random numbers depend on the image and on one of a few variants.

    A frozen backbone with a feature cache then computes every variant of an image once::

        dataloader.train.mapper = L(RepeatedAugmentation)(mapper=dataloader.train.mapper, variants=4)

    Args:
        mapper: ``DatasetMapper`` or any other function of a dict of Detectron2's data sets.
        variants: see `fpn_plugins.data.RepeatedRandomness`, like ``seed``.

    Raises:
        TypeError: a mapper that cannot be called; also the errors of `fpn_plugins.data.RepeatedRandomness`.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any], variants: int = 1, seed: int = 0) -> None:
        if not callable(mapper):
            raise TypeError(f"mapper={mapper!r} must be a mapper, such as DatasetMapper")
        self.mapper, self.randomness = mapper, RepeatedRandomness(variants, seed)

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        """Map a dict with ``image_id`` or ``file_name`` to a sample."""
        image = dataset_dict["image_id"] if "image_id" in dataset_dict else dataset_dict["file_name"]
        with self.randomness.of(image):
            return self.mapper(dataset_dict)
