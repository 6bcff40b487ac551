"""Resize and pad images as the test pipelines of the toolboxes do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ..checks import one_of
from ..extras import needed_for

if TYPE_CHECKING:
    import numpy as np

# Detectron2 resizes with Pillow, mmdet with OpenCV, which does not smooth an image that becomes smaller
LIBRARIES = ("pillow", "opencv")


@dataclass(frozen=True)
class Padding:
    """Padding at the right and at the bottom of a resized image, as mmdet's ``Pad``.

    Attributes:
        size: height and width; ``None`` if the image's own size is extended.
        square: extend the shorter side to the longer one.
        divisor: extend both sides to a multiple of this number of pixels.
        value: RGB value of the new pixels.

    Raises:
        ValueError: a ``size`` or a ``divisor`` below 1.
    """

    size: tuple[int, int] | None = None
    square: bool = False
    divisor: int = 1
    value: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.divisor < 1 or (self.size is not None and min(self.size) < 1):
            raise ValueError(f"size={self.size}, divisor={self.divisor} of a padding must be positive pixels")

    def pad(self, image: np.ndarray) -> np.ndarray:
        """Pad an image ``H W C``; ``value`` has to be equal in all channels unless there are three.

        Raises:
            ValueError: the image is larger than ``size``.
        """
        with needed_for("images"):
            import numpy as np

        sides = [max(image.shape[:2])] * 2 if self.square else list(image.shape[:2])
        if self.size is not None:
            sides = list(self.size)
        height, width = (math.ceil(side / self.divisor) * self.divisor for side in sides)
        if height < image.shape[0] or width < image.shape[1]:
            raise ValueError(
                f"the test pipeline pads to {height} x {width} pixels, the resized image has {image.shape[0]} x "
                f"{image.shape[1]}; choose a smaller size"
            )
        padded = np.empty((height, width, image.shape[2]), image.dtype)
        padded[:] = self.value if image.shape[2] == 3 else self.value[0]
        padded[: image.shape[0], : image.shape[1]] = image
        return padded


@dataclass(frozen=True)
class ResizeRule:
    """Rule by which images are resized before detection.

    Attributes:
        short: shorter side in pixels; less if the longer side would exceed ``long``. ``None`` keeps every size.
        long: limit of the longer side in pixels.
        exact: height and width of every image, whatever its shape, in place of ``short`` and ``long``.
        library: library that interpolates, ``"pillow"`` or ``"opencv"``, bilinearly in either case.
        padding: padding after resizing.

    Raises:
        ValueError: sides that are not positive, ``short`` above ``long``, or another library.
    """

    short: int | None = 800
    long: int = 1333
    exact: tuple[int, int] | None = None
    library: str = "pillow"
    padding: Padding | None = None

    def __post_init__(self) -> None:
        one_of("library", self.library, LIBRARIES)
        if self.exact is None and self.short is not None and not 0 < self.short <= self.long:
            raise ValueError(f"short={self.short}, long={self.long} must be positive pixels, short <= long")
        if self.exact is not None and min(self.exact) < 1:
            raise ValueError(f"exact={self.exact} must be positive pixels")

    def __str__(self) -> str:
        """Describe the rule in one phrase."""
        text = f"{self.short} x {self.long} px" if self.short is not None else "unchanged"
        if self.exact is not None:
            text = f"{self.exact[0]} x {self.exact[1]} px, stretched"
        return f"{text}, padded" if self.padding else text

    def resized_to(self, short: int, long: int) -> ResizeRule:
        """Return the rule with other sides; a padding to a fixed size is dropped."""
        padding = None if self.padding is None or self.padding.size else self.padding
        return replace(self, short=short, long=long, exact=None, padding=padding)

    def with_library(self, library: str) -> ResizeRule:
        """Return the rule with another library."""
        return replace(self, library=library)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of a resized image before padding; at least one pixel."""
        if self.exact is not None:
            return self.exact
        if self.short is None:
            return height, width
        scale = min(self.short / min(height, width), self.long / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def scale(self, image: np.ndarray) -> np.ndarray:
        """Resize an image ``H W C`` without padding it; ``ValueError`` for another shape."""
        if image.ndim != 3:
            raise ValueError(f"image of shape {image.shape}: expected H W C, such as RGB")
        height, width = self.size_of(*image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        if self.library == "opencv":
            with needed_for("images resized as mmdet does"):
                import cv2
            found = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            return found[..., None] if found.ndim == 2 else found
        if image.dtype.name != "uint8" or image.shape[2] != 3:
            return _interpolate(image, height, width)
        with needed_for("images"):
            import numpy as np
            from PIL import Image
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize and pad an image ``H W C``; ``ValueError`` for another shape."""
        scaled = self.scale(image)
        return self.padding.pad(scaled) if self.padding else scaled


def _interpolate(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize other images than 8-bit colors as Detectron2 does: bilinearly, without smoothing."""
    with needed_for("images"):
        import numpy as np

    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    resized = functional.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
    found: np.ndarray = resized[0].permute(1, 2, 0).numpy()
    return found


def resize_shortest(image: np.ndarray, short: int, long: int) -> np.ndarray:
    """Resize ``H W 3`` to a shorter side of ``short`` pixels, or less if the longer side would exceed ``long``.

    Both toolboxes compute and round the size this way. Interpolation is Pillow's bilinear, as in Detectron2.

    Raises:
        ValueError: sides that are not positive, ``short`` above ``long``, or an image that is not ``H W 3``.
    """
    return ResizeRule(short, long).resize(image)
