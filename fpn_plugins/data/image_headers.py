"""Read the headers of image files in parallel: size, color mode, EXIF orientation, and whether the file is complete."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..extras import needed_for
from ..files import suffix_of
from .pixels import ARRAYS, TIFFS, PixelReader, stored_shape

SAMPLE = 20_000
BOMB = "DecompressionBombError"  # of Pillow, for images of more than twice its ``MAX_IMAGE_PIXELS``
_ORIENTATION = 274  # number of the EXIF tag
_SAMPLES = 277  # number of the TIFF tag: bands of a file, of which Pillow reads the colors alone
_CHANNELS = {"LA": 2, "L": 1, "I": 1, "F": 1, "1": 1, "RGBA": 4, "RGBX": 4}  # of modes; colors have 3
_METADATA = ("exif", "xmp", "XML:com.adobe.xmp")  # keys under which Pillow holds it
_Item = TypeVar("_Item")


class ImageHeader(NamedTuple):
    """Header of an image file.

    Attributes:
        width: stored width in pixels, before the EXIF orientation is applied.
        height: stored height in pixels.
        mode: Pillow's color mode, such as ``"RGB"``, ``"P"`` (palette), ``"I;16"``.
        format: file format, such as ``"JPEG"``.
        orientation: EXIF orientation, 1 to 8; 1 is upright, from 5 on width and height are swapped.
        channels: number of channels that `read_pixels` finds.
        is_stack: whether Pillow, and so a toolbox, cannot read it, but `read_pixels` can: an array, or bands.
        drops_bands: whether Pillow, and so a toolbox, reads the colors alone of a TIFF file with more bands or pages.
        deep_colors: whether colors have 16 bits, of which Pillow, and so a toolbox, keeps the upper 8.
    """

    width: int
    height: int
    mode: str
    format: str
    orientation: int = 1
    channels: int = 3
    is_stack: bool = False
    drops_bands: bool = False
    deep_colors: bool = False

    @property
    def turned_size(self) -> tuple[int, int]:
        """Width and height after turning the image as its EXIF orientation asks for."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def gray_bits(self) -> int:
        """Bits of a gray value if more than 8, else 8; such colors are reduced to 8 alike in both toolboxes."""
        if self.mode.startswith("I;16") or (self.mode == "I" and self.format == "PNG"):
            return 16
        return 32 if self.mode in ("I", "F") else 8


def sampled(items: Sequence[_Item], limit: int | None = SAMPLE) -> Sequence[_Item]:
    """Return at most ``limit`` of the items, in order and always the same ones; all with ``None``."""
    if limit is None or len(items) <= limit:
        return items
    return [items[index] for index in sorted(random.Random(0).sample(range(len(items)), limit))]


def read_headers(paths: Sequence[Path], reader: PixelReader | None = None) -> list[ImageHeader | str]:
    """Read headers without decoding pixels; only a file whose end is missing is decoded, to be sure.

    Args:
        paths: image files.
        reader: reader of the images; ``None`` for the toolboxes' own.

    Returns:
        For each path its header, or what is wrong with a file that cannot be read, or not in full.
    """
    with needed_for("image headers"):
        from PIL import Image

        Image.preinit()
    threads = min(16, 4 * (os.cpu_count() or 1))
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # Pillow's about large images and odd metadata
        headers = pool.map(partial(_read_header, reader=reader), paths, chunksize=64)
        return list(with_progress(headers, len(paths), "image headers"))


def with_progress(results: Iterable[_Item], total: int, what: str) -> Iterator[_Item]:
    """Draw a progress bar on standard error if that is a terminal and rich is installed."""
    if not sys.stderr.isatty():
        return iter(results)
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return iter(results)
    console = Console(stderr=True)
    return iter(track(results, what, total=total, console=console, transient=True))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    with needed_for("image headers"):
        from PIL import Image

    with open(path, "rb") as file, Image.open(file) as image:
        yield file, image


def _read_header(path: Path, reader: PixelReader | None) -> ImageHeader | str:
    is_tiff = suffix_of(path) in TIFFS
    if suffix_of(path) in ARRAYS or (is_tiff and reader is not None):
        return _stack_header(path, reader is not None and reader.channels_first)
    try:
        with _opened(path) as (file, image):
            channels = next((number for mode, number in _CHANNELS.items() if image.mode.startswith(mode)), 3)
            is_color = image.mode.startswith("RGB")
            bands = image.tag_v2.get(_SAMPLES, 1) * getattr(image, "n_frames", 1) if image.format == "TIFF" else 0
            header = ImageHeader(
                *(image.width, image.height, image.mode, image.format or "", _orientation(image)),
                channels=max(channels, bands),
                drops_bands=bands > (3 if is_color else len(image.getbands())),  # an alpha of a camera's file is a band
                deep_colors=is_color and bool(image.tile) and ";16" in str(image.tile[0][3]),
            )
            if not _is_complete(file, image):
                image.load()
            return header
    except Exception as error:  # Pillow's decoders raise all kinds of errors for damaged files
        stack = _stack_header(path, False) if is_tiff else ""
        if isinstance(stack, ImageHeader):
            return stack
        size = path.stat().st_size if path.is_file() else 0
        return f"{type(error).__name__}: {error}" if size else "the file is empty"


def _stack_header(path: Path, channels_first: bool) -> ImageHeader | str:
    """Describe a file as `read_pixels` reads it."""
    try:
        height, width, channels, dtype = stored_shape(path, channels_first)
    except (ValueError, OSError) as error:  # a missing package is no fault of the file
        return str(error)
    return ImageHeader(width, height, dtype, path.suffix[1:].upper(), channels=channels, is_stack=True)


def _orientation(image: Any) -> int:
    # without metadata, PNG's getexif() would decode the image in search of some
    known = image.format == "TIFF" or any(key in image.info for key in _METADATA)
    value = image.getexif().get(_ORIENTATION) if known else 1
    return value if value in range(2, 9) else 1


def _is_complete(file: Any, image: Any) -> bool:
    """Return whether the end of a file looks like its format's; where that is unknown, as if complete."""
    size = os.fstat(file.fileno()).st_size
    if image.format == "TIFF":
        offsets, lengths = (image.tag_v2.get(tag) or (0,) for tag in (273, 279))
        return max(map(sum, zip(offsets, lengths, strict=False))) <= size
    head = os.pread(file.fileno(), 8, 0)
    tail = os.pread(file.fileno(), 64, max(0, size - 64))
    if image.format in ("JPEG", "MPO"):
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if image.format == "PNG":
        return b"IEND" in tail
    if image.format in ("WEBP", "BMP"):
        stated = (
            int.from_bytes(head[4:8], "little") + 8 if image.format == "WEBP" else int.from_bytes(head[2:6], "little")
        )
        return stated <= size
    return True
