"""Draw annotated images for the benchmarks of whole detectors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from synthetic.masks import extent
from synthetic.scene import Scene, draw_scene, paint
from synthetic.shapes import CATEGORIES

from fpn_plugins.inference import AnnotatedImage

MIN_OBJECTS = 5
MIN_SIDE = 64


def draw_pictures(number: int, size: tuple[int, int]) -> list[AnnotatedImage]:
    """Draw the first images with at least `MIN_OBJECTS` objects; they are the same in every process.

    Args:
        number: number of images.
        size: height and width in pixels.

    Raises:
        ValueError: a side too small for so many objects.
    """
    if min(size) < MIN_SIDE:
        raise ValueError(f"size={tuple(size)} is too small for {MIN_OBJECTS} objects; choose sides from {MIN_SIDE} on")
    return list(islice(_pictures(*size), number))


def _pictures(height: int, width: int) -> Iterator[AnnotatedImage]:
    for seed in count():
        generator = np.random.default_rng(seed)
        scene = draw_scene(generator, (width, height))
        crowded = any(entry.is_crowd for entry in scene.objects)
        if (scene.height, scene.width) == (height, width) and len(scene.objects) >= MIN_OBJECTS and not crowded:
            yield _annotated(scene, paint(scene, generator))


def _annotated(scene: Scene, image: np.ndarray) -> AnnotatedImage:
    masks = np.stack([scene.owner == index for index in range(len(scene.objects))])
    boxes = torch.tensor([extent(mask)["bbox"] for mask in masks], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]  # sides -> corners
    labels = torch.tensor([CATEGORIES.index(entry.category) for entry in scene.objects])
    return AnnotatedImage(torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1), boxes, labels, masks)
