"""Read images as both toolboxes do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..checks import one_of
from ..extras import needed_for
from ..files import suffix_of

if TYPE_CHECKING:
    import numpy as np

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


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
def errors_naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file of an image before the message of a ``ValueError``, unless it is in the message."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"image {os.fspath(path)!r}: {error}") from error


@contextmanager
def _image_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of many kinds that Pillow raises for a damaged file into a ``ValueError`` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        bands = suffix_of(path) in (".npy", ".tif", ".tiff")
        hint = "; for arrays and bands, the config needs fpn_plugins.LoadImage or INPUT.FPN_PLUGINS" if bands else ""
        hint = "; cut it into parts of fewer pixels" if type(error).__name__ == "DecompressionBombError" else hint
        raise ValueError(f"image {os.fspath(path)!r} cannot be read: {error}{hint}") from error
