"""Compute statistics of the pixels of many images, channel by channel, in one pass and in double precision."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import needed_for
from ..files import suffix_of
from .coco_folder import find_split, read_coco
from .pixels import FULL, PixelReader, read_pixels

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".npy", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
PERCENTILES = (0, 1, 50, 99, 100)
_PER_IMAGE = 10_000  # pixels per image that the percentiles are computed of, evenly spread
_MOST_PIXELS = 4_000_000  # of all images; beyond, as many are left out of each, so that thousands fit into memory
_FULL_VALUES = {"uint8": 255.0, "uint16": 65535.0}


class ChannelMoments:
    """Mean and variance of the values of each channel, joined image by image (Chan et al., 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | None = None
        self._squares: np.ndarray | None = None

    def add(self, pixels: np.ndarray) -> None:
        """Add the pixels of an image ``H W C``."""
        values = pixels.reshape(-1, pixels.shape[2]).astype("float64")
        count, mean = len(values), values.mean(0)
        squares = ((values - mean) ** 2).sum(0)
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = count, mean, squares
            return
        total, difference = self.count + count, mean - self._mean
        self._mean = self._mean + difference * (count / total)
        self._squares = self._squares + squares + difference**2 * (self.count * count / total)
        self.count = total

    @property
    def mean(self) -> list[float]:
        """Mean of each channel."""
        return [] if self._mean is None else self._mean.tolist()

    @property
    def std(self) -> list[float]:
        """Standard deviation of each channel, of all pixels."""
        return [] if self._squares is None else ((self._squares / self.count) ** 0.5).tolist()


class PixelSample:
    """Some pixels of each image, evenly spread, and so few of each that those of all images fit into memory."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self._every, self._count = 1, 0

    def add(self, flat: np.ndarray) -> None:
        """Add pixels of an image, ``N C``."""
        chosen = flat[:: max(1, len(flat) // _PER_IMAGE)][:_PER_IMAGE]
        self.parts.append(chosen[:: self._every].copy())  # a view would keep the whole image in memory
        self._count += len(self.parts[-1])
        if self._count > _MOST_PIXELS:
            self._every *= 2
            self.parts = [part[::2].copy() for part in self.parts]
            self._count = sum(map(len, self.parts))


@dataclass(frozen=True)
class PixelStatistics:
    """Statistics of the pixels of a set, for each channel.

    Attributes:
        images: number of images.
        channels: number of channels.
        dtypes: number of images by the type of their values.
        mean: means, in the values of the files.
        std: standard deviations.
        percentiles: percentile -> values; 0 and 100 are the extremes, those between are of some pixels of each image.
        max_value: value of a full pixel that the types suggest; ``None`` for floats and wide integers.
    """

    images: int
    channels: int
    dtypes: dict[str, int]
    mean: list[float]
    std: list[float]
    percentiles: dict[int, list[float]]
    max_value: float | None

    def scaled(self, max_value: float | None) -> tuple[list[float], list[float]]:
        """Return means and standard deviations of what a `PixelReader` with ``max_value`` reads."""
        scale = 1.0 if max_value is None else FULL / max_value
        return [scale * value for value in self.mean], [scale * value for value in self.std]

    def normalization(self, max_value: float | None) -> tuple[list[float], list[float]]:
        """Return means and standard deviations for a config, rounded, and 1 where a channel is the same everywhere."""
        means, stds = self.scaled(max_value)
        flat = self.flat
        stds = [1.0 if channel in flat else _rounded(value, value) for channel, value in enumerate(stds)]
        return list(map(_rounded, means, stds)), stds

    @property
    def flat(self) -> list[int]:
        """Channels whose values are the same everywhere in single precision; the deviation may be almost 0."""
        ends = zip(self.percentiles[0], self.percentiles[100], self.std, strict=True)
        return [channel for channel, (low, high, std) in enumerate(ends) if std <= 1e-6 * max(-low, high)]


def _rounded(value: float, std: float) -> float:
    """Round to 3 decimals, and where a deviation is below 1, such as of a reflectance, to 4 digits of that."""
    return round(value, 3 if std >= 1 else 3 - math.floor(math.log10(std)))


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder and its subfolders, or those that the training split of a COCO-format one names.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {str(folder)!r} does not exist")
    with suppress(FileNotFoundError, ValueError):
        split = find_split(folder, "train")
        folder = split.image_dir
        named = [entry.get("file_name") for entry in read_coco(split.ann_file, annotated=False)["images"]]
        # the folder may hold the images of other splits, too
        files = {folder / name for name in named if isinstance(name, str)}
        existing = sorted(path for path in files if path.is_file())
        if existing:
            return existing
    inside = (path for path in folder.rglob("*") if not _is_hidden(path.relative_to(folder)))
    found = sorted(path for path in inside if suffix_of(path) in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"folder {str(folder)!r} has no images {', '.join(SUFFIXES)}")
    return found


def _is_hidden(path: Path) -> bool:
    """Return whether a file is hidden: macOS writes such a file beside each image on drives of other systems."""
    return any(part.startswith(".") for part in path.parts)


def pixel_statistics(paths: Iterable[Path], reader: PixelReader | None = None) -> PixelStatistics:
    """Compute the statistics of image files, which are read one at a time.

    Args:
        paths: image files.
        reader: its ``bands`` and ``channels_first`` are read; values are those of the files.

    Raises:
        ValueError: no files, one that cannot be read, of another number of channels than the first, or with values
            that are not finite.
    """
    with needed_for("statistics of pixels"):
        import numpy as np

    moments, sample, dtypes = ChannelMoments(), PixelSample(), Counter[str]()
    low: list[Any] = []
    high: list[Any] = []
    for path, pixels in _read(paths, reader):
        if low and pixels.shape[2] != low[0].shape[0]:
            raise ValueError(
                f"image {str(path)!r} has {pixels.shape[2]} channels, those before it {low[0].shape[0]}; keep images "
                "of other cameras in other folders, choose channels by bands, or name arrays C H W by channels_first"
            )
        if not np.isfinite(pixels).all():
            raise ValueError(f"image {str(path)!r} has values that are not finite; replace them, such as by 0")
        moments.add(pixels)
        dtypes[pixels.dtype.name] += 1
        flat = pixels.reshape(-1, pixels.shape[2])
        low.append(flat.min(0))
        high.append(flat.max(0))
        sample.add(flat)
    if not moments.count:
        raise ValueError("no image files are given")
    inner = np.percentile(np.concatenate(sample.parts), PERCENTILES[1:-1], axis=0).tolist()
    ends = [np.min(low, axis=0).tolist(), *inner, np.max(high, axis=0).tolist()]
    known = {_FULL_VALUES.get(name) for name in dtypes}
    return PixelStatistics(
        images=sum(dtypes.values()),
        channels=len(moments.mean),
        dtypes=dict(dtypes.most_common()),
        mean=moments.mean,
        std=moments.std,
        percentiles=dict(zip(PERCENTILES, ends, strict=True)),
        max_value=known.pop() if len(known) == 1 else None,
    )


def _read(paths: Iterable[Path], reader: PixelReader | None) -> Iterator[tuple[Path, np.ndarray]]:
    bands: Sequence[int] | None = None if reader is None else reader.bands
    for path in paths:
        pixels = read_pixels(path, reader is not None and reader.channels_first)
        if reader is not None and bands is not None:
            problem = reader.problem(pixels.shape[2])
            if problem:
                raise ValueError(f"image {str(path)!r} has {problem}")
            pixels = pixels[..., list(bands)]
        yield path, pixels
