"""Compose pictures of one image in the middle of a training: what is found, and what every level responds to."""

from __future__ import annotations

import itertools
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..extras import needed_for
from ..files import shortened
from ..visualization.detections import draw_objects
from ..visualization.figures import figure_pixels, new_figure
from ..visualization.pyramid import pyramid_figure
from .levels import LevelMaps, assign_levels

if TYPE_CHECKING:
    import numpy as np

DPI = 110


class Watched(NamedTuple):
    """One image with what a detector in training found on it.

    Attributes:
        image: ``H W 3``, RGB, 0..255.
        truth: annotated objects in COCO's format.
        found: detected objects in COCO's format; ``None`` for a model that returns none.
        names: category id -> name.
        maps: maps of the forward pass; without rows, there is no picture of them.
        resized: height and width to which the image was resized for the network, in pixels, without padding.
        one_stage: whether objects are assigned to levels by RetinaNet's rule, or FPN's.
    """

    image: np.ndarray
    truth: Sequence[Mapping[str, Any]]
    found: Sequence[dict[str, Any]] | None
    names: Mapping[int, str]
    maps: LevelMaps
    resized: Sequence[int]
    one_stage: bool


def picture_name(path: str | os.PathLike[str], taken: set[str]) -> str:
    """Return the name of an image for its pictures: that of its file, and a number if images of two folders share it.

    Args:
        path: image file.
        taken: names of the images before it; the new one is added.
    """
    stem = shortened(Path(path).stem, 200)
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def mlflow_key(name: str) -> str:
    """Return the name of a picture as MLflow allows it: ASCII letters, digits, and some signs; others stop a training.

    A changed name ends with a checksum, so that the pictures of two files do not become one.
    """
    key = re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", name)
    return key if key == name else f"{key}_{zlib.crc32(os.fsencode(name)):08x}"


def draw_watched(watched: Watched) -> dict[str, np.ndarray]:
    """Draw up to two pictures ``H W 3``, RGB, 0..255, by their names.

    ``"detections"`` shows the annotated objects next to the detected ones. ``"levels"`` shows the mean absolute
    activation of each map of backbone and neck over the image, and the detections colored by the level of their size.
    """
    pictures = {}
    image, found = watched.image, watched.found
    if found is not None:
        width = 2 * min(6.0, 4.0 * (image.shape[1] / image.shape[0]) ** 0.5)
        figure = new_figure(width, width / 2 * image.shape[0] / image.shape[1] + 0.35)
        left, right = figure.subplots(1, 2)
        draw_objects(left, image, watched.truth, watched.names, f"annotated: {len(watched.truth)}")
        draw_objects(right, image, found, watched.names, f"detected: {len(found)}")
        pictures["detections"] = figure_pixels(figure, DPI)
    if watched.maps.rows:
        scales = [new / old for new, old in zip(watched.resized[::-1], image.shape[1::-1], strict=True)]
        objects = [dict(entry) for entry in found or ()]
        assign_levels(objects, scales, watched.one_stage)
        covered = watched.maps.covered_size(image.shape[:2], watched.resized)
        figure = pyramid_figure(image, watched.maps.rows, "mean |activation|", objects, covered)
        pictures["levels"] = figure_pixels(figure, DPI)
    return pictures


def displayable(pixels: Tensor, size: Sequence[int], reversed_channels: bool = False) -> np.ndarray:
    """Turn a network's input, before it is normalized, into a picture ``H W 3``, RGB, 0..255.

    Args:
        pixels: ``C H W``. Of more than three channels, the first three are shown, one is shown gray. Values other
            than 0..255, such as 16 bits or reflectances, are stretched to that range.
        size: height and width of the picture, in pixels.
        reversed_channels: whether three channels are in the order BGR.
    """
    with needed_for("pictures"):
        import numpy as np
        from PIL import Image

    shown = pixels.detach().float().cpu()
    shown = shown[:3] if len(shown) >= 3 else shown[:1].expand(3, -1, -1)
    if reversed_channels and len(pixels) == 3:
        shown = shown.flip(0)
    low, high = float(shown.min()), float(shown.max())
    if low < 0 or high > 255 or high <= 1:
        shown = (shown - low) * (255 / max(high - low, 1e-12))
    values: Any = shown.round().to(torch.uint8).permute(1, 2, 0).numpy()
    resized = Image.fromarray(np.ascontiguousarray(values)).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized)
