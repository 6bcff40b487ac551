"""Choose how images of other cameras than those for 8-bit colors are read and normalized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import PixelReader, pixel_statistics
from ..data.image_headers import ImageHeader, read_headers, sampled, with_progress
from ..data.pixels import stored_shape

MOST_HEADERS = 500
MOST_IMAGES = 100  # of which the statistics are computed


@dataclass(frozen=True)
class Camera:
    """How images are read and normalized that the toolboxes' own readers do not read, or not in full.

    Attributes:
        reader: reader of the images.
        mean: mean of each channel, as the reader scales it.
        std: standard deviation of each channel; 1 for a channel that is the same everywhere.
    """

    reader: PixelReader
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def arguments(self) -> str:
        """Keyword arguments of the toolboxes' readers as in a config, without those that have their default."""
        return ", ".join(f"{key}={value!r}" for key, value in self.reader.options().items())


def choose_camera(
    paths: Sequence[Path],
    max_value: float | None,
    bands: Sequence[int] | None,
    channels_first: bool,
    reasons: list[Any],
) -> Camera | None:
    """Choose the reader of images, and add the reason.

    Args:
        paths: training images.
        max_value: value of a full pixel; ``None`` for that of the images' type.
        bands: channels to read; ``None`` for all.
        channels_first: whether ``.npy`` files hold ``C H W``.
        reasons: receives what was chosen.

    Returns:
        ``None`` unless one of the options is given, or the toolboxes' own readers read none of the images in full.
        Where they fail at some alone, the check of the data names these.

    Raises:
        FileNotFoundError: one of the options is given, and none of the images exists.
        ValueError: images of different numbers of channels or types of values, or one that cannot be read.
    """
    existing = sampled([path for path in paths if path.is_file()], MOST_HEADERS)  # the data check names missing ones
    given = max_value is not None or bands is not None or channels_first
    if given and not existing:
        raise FileNotFoundError(
            f"none of the images exists, such as {str(paths[0])!r}; max_value, bands and channels_first need them"
        )
    if not existing or not (given or _need_reader(existing)):
        return None
    chosen = PixelReader(len(bands or [0]), max_value, bands, channels_first)
    files = sampled(existing, MOST_IMAGES)
    found = pixel_statistics(with_progress(files, len(files), "pixels"), chosen)
    full = max_value or found.max_value
    if full is None and len(found.dtypes) > 1:
        raise ValueError(
            f"images beside {str(files[0])!r} have values of several types, {found.dtypes}; give max_value, the value "
            "of a full pixel in all of them, or store them alike"
        )
    reader = PixelReader(found.channels, full, bands, channels_first)
    means, stds = found.normalization(full)
    value = f"{found.channels} of {' and '.join(found.dtypes)}{f', {full:g} is full' if full else ''}"
    why = f"by {found.images} images, whose statistics normalize them; the whole backbone is trained"
    why += f"; channels {found.flat} are the same everywhere: leave them out by --bands" if found.flat else ""
    reasons.append(("channels", value, why))
    return Camera(reader, tuple(means), tuple(stds))


def _need_reader(paths: Sequence[Path]) -> bool:
    """Return whether the toolboxes' own readers refuse all undamaged files, or lose bands or bits of them."""
    headers = zip(paths, read_headers(paths), strict=True)
    found = [(path, header) for path, header in headers if isinstance(header, ImageHeader)]
    if not all(h.is_stack or h.drops_bands or h.deep_colors or h.gray_bits > 8 for _, h in found):
        return False
    # pages of colors are no bands: the toolboxes read the first, and the reader refuses them
    return any(not header.drops_bands or _is_readable(path) for path, header in found)


def _is_readable(path: Path) -> bool:
    try:
        stored_shape(path)
    except ValueError:
        return False
    return True
