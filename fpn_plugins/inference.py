"""Read images and videos, represent detections of either toolbox, and load a detector's weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .checks import one_of
from .extras import needed_for
from .weights import read_checkpoint
from .weights.prefixes import restore_wrappers, strip_wrappers

if TYPE_CHECKING:
    import numpy as np

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
# parts of keys whose values are determined by the config; some versions of the toolboxes store them
COMPUTED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


class Detections(NamedTuple):
    """Detections on one image, in pixels of the original image.

    Attributes:
        boxes: corners ``N 4`` (left, top, right, bottom).
        scores: ``N``, from 0 to 1.
        labels: ``N``, class indices.
        masks: ``N H W`` booleans; ``None`` if the detector predicts no masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """Convert to COCO's results format; ``category_ids`` lists the category id of each class index."""
        with needed_for("results in COCO's format"):
            from pycocotools import mask as mask_utils

        corners = self.boxes.double()
        sides = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        results = []
        for index, (box, score, label) in enumerate(
            zip(sides, self.scores.tolist(), self.labels.tolist(), strict=True)
        ):
            entry = {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            if self.masks is not None:
                rle = mask_utils.encode(self.masks[index].cpu().numpy().astype("uint8", order="F"))
                entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(entry)
        return results


class AnnotatedImage(NamedTuple):
    """An image and its objects, for training a detector of either toolbox.

    Attributes:
        pixels: ``3 H W``, BGR, 0..255, the toolboxes' default order.
        boxes: corners ``N 4`` in pixels.
        labels: ``N``, class indices.
        masks: ``N H W`` booleans.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    masks: np.ndarray


def read_image(path: str | os.PathLike[str], toolbox: str | None = None) -> np.ndarray:
    """Read an image file as ``H W 3``, RGB, 0..255, rotated by its EXIF orientation as in both toolboxes.

    Args:
        path: image file.
        toolbox: toolbox whose reading of 16-bit gray values to follow: ``"mmdet"`` divides them by 256,
            ``"detectron2"`` clips them at 255, as does the default, ``None``. Other files are read alike.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ``toolbox``, or a file that cannot be read.
    """
    with needed_for("images"):
        import numpy as np
        from PIL import Image, ImageOps

    if toolbox is not None:
        one_of("toolbox", toolbox, ("mmdet", "detectron2"))
    with _image_errors(path), Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        deep = turned.mode.startswith("I;16") or (turned.mode == "I" and image.format == "PNG")
        if deep and toolbox == "mmdet":
            turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
        return np.asarray(turned.convert("RGB"))


@contextmanager
def _image_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of many kinds that Pillow raises for a damaged file into a ``ValueError`` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"image {os.fspath(path)!r} cannot be read: {error}") from error


def read_pictures(
    path: str | os.PathLike[str], every: int = 1, toolbox: str | None = None
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Read an image, or frames of a video, as ``H W 3``, RGB, 0..255.

    Args:
        path: image or video; `VIDEOS` lists the suffixes of videos.
        every: read every Nth frame of a video.
        toolbox: see `read_image`.

    Yields:
        Frame number, counted from 0 (``None`` for an image), and the picture.

    Raises:
        ImportError: ``path`` is a video and OpenCV is not installed.
        ValueError: OpenCV finds no frames in the video.
    """
    if Path(path).suffix.lower() not in VIDEOS:
        yield None, read_image(path, toolbox)
        return
    with needed_for(f"videos such as {os.fspath(path)!r}"):
        import cv2
    video = cv2.VideoCapture(os.fspath(path))
    number = 0
    while (read := video.read())[0]:
        if number % every == 0:
            yield number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        number += 1
    video.release()
    if number == 0:
        raise ValueError(f"cannot read {os.fspath(path)!r}: OpenCV finds no frames in it")


def resize_shortest(image: np.ndarray, short: int, long: int) -> np.ndarray:
    """Resize ``H W 3`` to a shorter side of ``short`` pixels, or less if the longer side would exceed ``long``.

    Both toolboxes compute and round the size this way. Interpolation is Pillow's bilinear, as in Detectron2.

    Raises:
        ValueError: sides that are not positive, ``short`` above ``long``, or an image that is not ``H W 3``.
    """
    with needed_for("images"):
        import numpy as np
        from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image of shape {image.shape}: expected H W 3, RGB")
    if not 0 < short <= long:
        raise ValueError(f"short={short}, long={long} must be positive pixels, short <= long")
    height, width = image.shape[:2]
    scale = min(short / min(height, width), long / max(height, width))
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


class ImagePredictor:
    """Built detector as a function of an image; each toolbox's adapter implements the call.

    Args:
        model: the toolbox's detector; it is set to evaluation mode.
        short: shorter side of the resized image, in pixels.
        long: limit of the longer side of the resized image, in pixels.
    """

    def __init__(self, model: Any, short: int = 800, long: int = 1333) -> None:
        self.model = model.eval()
        self.short, self.long = short, long

    def resized(self, image: np.ndarray) -> np.ndarray:
        """Resize an image ``H W 3`` for the detector."""
        return resize_shortest(image, self.short, self.long)

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")


def is_computed(key: str) -> bool:
    """Return whether the config determines the value under a key of a state dict."""
    return any(part in key for part in COMPUTED)


def without_wrappers(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights under the keys of a model, as `read_checkpoint` does; the same object if that changes nothing."""
    stripped = restore_wrappers(strip_wrappers(weights), model.state_dict())
    return weights if set(stripped) == set(weights) else stripped


def load_detector_weights(detector: nn.Module, checkpoint: str | os.PathLike[str], config: str = "the config") -> None:
    """Load a checkpoint of exactly this detector; values that the config determines are skipped.

    Args:
        detector: detector of either toolbox.
        checkpoint: file that `read_checkpoint` reads.
        config: name of the detector's config, for messages.

    Raises:
        ValueError: parameters are missing, left over, or of other shapes.
    """
    load_weights(detector, read_checkpoint(checkpoint), str(checkpoint), config)


def load_weights(detector: nn.Module, weights: Mapping[str, Tensor], checkpoint: str, config: str) -> None:
    """Load a state dict as `load_detector_weights` does; ``checkpoint`` names its file, for messages."""
    try:
        keys = detector.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"checkpoint {checkpoint!r} does not fit {config}: {reason}") from error
    missing, unexpected = (
        [key for key in found if not is_computed(key)] for found in (keys.missing_keys, keys.unexpected_keys)
    )
    if missing or unexpected:
        raise ValueError(
            f"checkpoint {checkpoint!r} does not fit {config}: {len(missing)} parameters missing {missing[:4]}, "
            f"{len(unexpected)} left over {unexpected[:4]}; tools/convert_checkpoint.py converts a checkpoint of the "
            "other toolbox"
        )
