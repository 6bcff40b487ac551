"""Images and detections of either toolbox in one form, and the loading of a detector's weights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .weights import read_checkpoint

if TYPE_CHECKING:
    import numpy as np

# computed from the config, and stored by some versions of the toolboxes
COMPUTED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


class Detections(NamedTuple):
    """What a detector found on one image, in pixels of the image as it was given.

    Attributes:
        boxes: corners ``N 4`` (left, top, right, bottom).
        scores: ``N``.
        labels: ``N``, indices of classes.
        masks: ``N H W`` of booleans; ``None`` of a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """In COCO's results format; ``category_ids`` by index of class."""
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
    """An image and the objects on it, as the detectors of both toolboxes train on.

    Attributes:
        pixels: ``3 H W``, BGR, 0..255, as both toolboxes read images.
        boxes: corners ``N 4`` in pixels.
        labels: ``N``, class indices.
        masks: ``N H W`` booleans.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    masks: np.ndarray


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as ``H W 3``, RGB, 0..255, turned as its EXIF orientation says, as both toolboxes do."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def resize_shortest(image: np.ndarray, short: int, long: int) -> np.ndarray:
    """Resize ``H W 3`` so that its shorter side is ``short`` pixels, or its longer one ``long`` if that is less.

    The rule and the rounding are both toolboxes' own; the interpolation is pillow's bilinear one, as Detectron2's.

    Raises:
        ValueError: sides that are not positive, or an image that is not ``H W 3``.
    """
    import numpy as np
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image of shape {image.shape}: expected H W 3, RGB")
    if not 0 < short <= long:
        raise ValueError(f"short={short}, long={long} must be positive pixels, short <= long")
    height, width = image.shape[:2]
    scale = min(short / min(height, width), long / max(height, width))
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    return (
        image if size == (width, height) else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    )


class ImagePredictor:
    """A built detector as a function of an image; the subclass of each toolbox's adapter says how to call it.

    Args:
        model: the toolbox's detector; it is put into evaluation mode.
        short: shorter side of the image in pixels, after resizing.
        long: the most that its longer side may have.
    """

    def __init__(self, model: Any, short: int = 800, long: int = 1333) -> None:
        self.model = model.eval()
        self.short, self.long = short, long

    def resized(self, image: np.ndarray) -> np.ndarray:
        """The image ``H W 3`` as the detector gets it."""
        return resize_shortest(image, self.short, self.long)

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect on ``H W 3``, RGB, 0..255."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to call its detector")


def load_detector_weights(detector: nn.Module, checkpoint: str | os.PathLike[str]) -> None:
    """Load a checkpoint of this very detector; values that old toolboxes stored beside the weights are skipped.

    Raises:
        ValueError: parameters missing or left over, or of other shapes.
    """
    try:
        missing, unexpected = detector.load_state_dict(read_checkpoint(checkpoint), strict=False)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {str(checkpoint)!r} does not fit the config: {error}") from error
    missing, unexpected = (
        [key for key in keys if not any(part in key for part in COMPUTED)] for keys in (missing, unexpected)
    )
    if missing or unexpected:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} is of another detector than the config: {len(missing)} parameters missing "
            f"{missing[:4]}, {len(unexpected)} left over {unexpected[:4]}; tools/convert_checkpoint.py converts those "
            "of the other toolbox"
        )
