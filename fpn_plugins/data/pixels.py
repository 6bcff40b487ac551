"""Read images of any number of channels, of 8, 16 or 32 bits, from TIFF, NPY, PNG and what Pillow reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..checks import boolean, integers, number, positive_int
from ..extras import needed_for
from ..files import suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

ARRAYS = (".npy",)
TIFFS = (".tif", ".tiff")
FULL = 255.0  # value of a full pixel in both toolboxes
_UPRIGHT = 1
_ORIENTATION = 274  # number of the tag
_KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I", "F")


def read_pixels(path: str | os.PathLike[str], channels_first: bool = False) -> np.ndarray:
    """Read an image file as ``H W C`` with the values and the order of channels that it stores.

    - ``.npy``: an array ``H W`` or ``H W C`` of numbers; pickled objects are refused.
    - ``.tif``: samples, planes and pages become channels, in the order in which the file has them.
    - Others, by Pillow: red, green, blue, then alpha if there is one; gray images have one channel, of 16 bits if they
      are stored so; palettes become colors; an EXIF orientation is applied. Color PNGs of 16 bits are read by OpenCV.

    Args:
        path: image file.
        channels_first: whether ``.npy`` files hold ``C H W``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, one without pixels, or an array of another number of dimensions or kind of values.
    """
    suffix = suffix_of(path)
    with _reading(path):
        if suffix in ARRAYS:
            return _read_array(path, channels_first)
        return _read_tiff(path) if suffix in TIFFS else _read_picture(path)


def stored_shape(path: str | os.PathLike[str], channels_first: bool = False) -> tuple[int, int, int, str]:
    """Return height, width, number of channels and type of an NPY or TIFF file without reading its pixels.

    Arguments and errors are those of `read_pixels`; a file whose end is missing is an error, too.
    """
    with needed_for("images"):
        import numpy as np

    with _reading(path):
        if suffix_of(path) in ARRAYS:
            pixels = _as_image(np.load(path, mmap_mode="r", allow_pickle=False), channels_first)
            return (*pixels.shape, str(pixels.dtype))
        with needed_for("TIFF images"):
            import tifffile
        with tifffile.TiffFile(path) as file:
            order, found = _tiff_order(file), file.series[0]
            ends = [sum(end) for page in found.pages for end in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if max(ends, default=0) > os.path.getsize(path):
                raise ValueError("its end is missing; copy it again")
            height, width = (found.shape[axis] for axis in order[:2])
            return height, width, found.size // (height * width), str(found.dtype)


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of many kinds that libraries raise for a damaged file into a ``ValueError`` that names it."""
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"image {os.fspath(path)!r} cannot be read: {error}") from error


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind not in "uif" or pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(
            f"it holds {pixels.dtype} of the shape {pixels.shape}; expected real numbers H W, or H W C with channels "
            "last (channels_first=True reads arrays C H W)"
        )
    return pixels


def _read_array(path: str | os.PathLike[str], channels_first: bool) -> np.ndarray:
    with needed_for("images"):
        import numpy as np

    return _as_image(np.load(path, allow_pickle=False), channels_first)


def _as_image(stored: Any, channels_first: bool) -> np.ndarray:
    """Return what ``numpy.load`` gives as ``H W C``."""
    with needed_for("images"):
        import numpy as np

    if not isinstance(stored, np.ndarray):
        raise ValueError("it is an archive of arrays; save one array by numpy.save")
    if stored.ndim == 3 and channels_first:
        stored = stored.transpose(1, 2, 0)
    return _checked(stored[..., None] if stored.ndim == 2 else stored)


def _read_tiff(path: str | os.PathLike[str]) -> np.ndarray:
    with needed_for("TIFF images"):
        import numpy as np
        import tifffile

    with tifffile.TiffFile(path) as file:
        order = _tiff_order(file)
        pixels = np.asarray(file.series[0].asarray()).transpose(*order)
    return _checked(pixels.reshape(*pixels.shape[:2], -1))


def _tiff_order(file: Any) -> list[int]:
    """Return the axes of a file's first series: rows, columns, that of its bands, and those of a single entry."""
    turned = file.pages.first.tags.get(_ORIENTATION)
    if turned is not None and turned.value != _UPRIGHT:
        raise ValueError(f"its orientation tag is {turned.value}; save it upright, without the tag")
    shape, axes = file.series[0].shape, file.series[0].axes
    others = [axis for axis, name in enumerate(axes) if name not in "YX" and shape[axis] > 1]
    if "Y" not in axes or "X" not in axes or len(others) > 1:
        raise ValueError(f"it has the axes {axes} of the sizes {shape}; expected rows, columns, and one axis of bands")
    keep = [axes.index("Y"), axes.index("X"), *others]
    return [*keep, *(axis for axis in range(len(axes)) if axis not in keep)]


def _read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    with needed_for("images"):
        import numpy as np
        from PIL import Image, ImageOps

    with Image.open(path) as image:
        if image.tile and ";16" in str(image.tile[0][3]) and not image.mode.startswith("I"):
            return _read_deep_colors(path)
        turned = ImageOps.exif_transpose(image)
        if turned.mode not in _KEPT_MODES and not turned.mode.startswith("I;16"):
            turned = turned.convert("L" if turned.mode == "1" else "RGB")
        pixels = np.asarray(turned)
        if turned.mode == "I" and image.format == "PNG":
            pixels = pixels.astype(np.uint16)
    return _checked(pixels[..., None] if pixels.ndim == 2 else pixels)


def _read_deep_colors(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a color PNG of 16 bits, which Pillow reduces to 8."""
    with needed_for("color images of 16 bits"):
        import cv2
        import numpy as np

    stored = np.fromfile(path, np.uint8)
    pixels: np.ndarray | None = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else ...
    return _checked(pixels[..., None] if pixels.ndim == 2 else pixels[..., order])


@dataclass(frozen=True)
class PixelReader:
    """Reader of images for a detector with ``in_chans`` channels.

    Args:
        in_chans: number of channels; an image with another number is an error, nothing is guessed.
        max_value: value of a full pixel, which becomes 255: 65535 for 16 bits, 4095 for a camera of 12, 1 for floats.
            The statistics of color images, which both toolboxes state on the scale 0..255, then fit as they are.
            ``None`` keeps the values of the file, whatever their type.
        bands: channels of the file to read, in this order, counted from 0; ``None`` reads all.
        channels_first: whether ``.npy`` files hold ``C H W``.

    Raises:
        TypeError: an argument of another type.
        ValueError: a number below 1, or another number of ``bands`` than ``in_chans``.
    """

    in_chans: int = 3
    max_value: float | None = None
    bands: Sequence[int] | None = None
    channels_first: bool = False

    def __post_init__(self) -> None:
        positive_int("in_chans", self.in_chans)
        boolean("channels_first", self.channels_first)
        if self.max_value is not None and number("max_value", self.max_value) <= 0:
            raise ValueError(f"max_value={self.max_value} must be positive, such as 65535 for 16 bits, or None")
        if self.bands is not None:
            object.__setattr__(self, "bands", integers("bands", self.bands, 0))
            if len(self.bands) != self.in_chans:
                raise ValueError(f"bands={list(self.bands)} must be as many as in_chans={self.in_chans}")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> PixelReader:
        """Make a reader from a mapping that may have further keys."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls) if field.name in arguments})

    def options(self) -> dict[str, Any]:
        """Return ``in_chans``, and the other arguments that are not their default."""
        others = {"max_value": self.max_value, "bands": self.bands and list(self.bands)}
        chosen = {key: value for key, value in others.items() if value is not None}
        return {"in_chans": self.in_chans, **chosen, **({"channels_first": True} if self.channels_first else {})}

    def __call__(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Read an image as ``H W in_chans``, single precision; errors are those of `read_pixels`, see above."""
        pixels = read_pixels(path, self.channels_first)
        problem = self.problem(pixels.shape[2])
        if problem:
            raise ValueError(f"image {os.fspath(path)!r} has {problem}")
        return self.scaled(pixels if self.bands is None else pixels[..., list(self.bands)])

    def problem(self, channels: int) -> str:
        """Say what is wrong with a file of this number of channels; an empty text if nothing is."""
        if self.bands is not None and max(self.bands) >= channels:
            return f"{channels} channels, but bands={list(self.bands)} counts from 0; choose among 0..{channels - 1}"
        if self.bands is None and channels != self.in_chans:
            return (
                f"{channels} channels, in_chans={self.in_chans}; set in_chans={channels}, or choose channels by bands"
            )
        return ""

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Convert pixels ``H W C`` to single precision, on the scale 0..255 if there is a ``max_value``."""
        scale = 1.0 if self.max_value is None else FULL / self.max_value
        found = pixels.astype("float32")
        return found if scale == 1 else found * found.dtype.type(scale)


def to_picture(pixels: np.ndarray) -> np.ndarray:
    """Make a picture ``H W 3``, 0..255, of the first three channels of ``H W C``, or of the first if there are two.

    Values are stretched from the smallest to the largest among the shown ones, unless they are 8-bit colors already.
    """
    with needed_for("pictures"):
        import numpy as np

    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    if shown.dtype == np.uint8:
        return shown
    finite = np.nan_to_num(shown.astype(np.float32), posinf=0, neginf=0)
    low, high = float(finite.min()), float(finite.max())
    return ((finite - low) * (FULL / max(high - low, 1e-12))).round().astype(np.uint8)
