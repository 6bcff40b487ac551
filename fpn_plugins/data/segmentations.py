"""Check segmentations of COCO annotations: polygons, and run-length encodings, compressed or not.

pycocotools reads and writes out of bounds on damaged encodings, so they are decoded here first.
"""

from __future__ import annotations

from typing import Any

from ..extras import needed_for
from .json_values import is_number, is_whole

# characters of a compressed encoding hold 6 bits from "0"; 7 of them hold any 32-bit run
_FIRST, _LAST, _LONGEST = 48, 111, 7


def decode_counts(counts: str) -> list[int]:
    """Decode a compressed run-length encoding to the lengths of its runs, alternately of background and object.

    Raises:
        ValueError: the text is no such encoding; says how it is damaged.
    """
    with needed_for("compressed masks"):
        import numpy as np

    if counts.startswith(("b'", 'b"')):
        raise ValueError("is the text of a Python bytes object (str(bytes)); write counts.decode() instead")
    codes = np.frombuffer(counts.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    wrong = np.flatnonzero((codes < _FIRST) | (codes > _LAST))
    if wrong.size:
        raise ValueError(f"has the character {counts[wrong[0]]!r} at {wrong[0]}, which no encoding has")
    codes -= _FIRST
    if codes.size == 0 or codes[-1] & 0x20:
        raise ValueError("is cut off: its last number is incomplete")
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("has a number of more than 32 bits")
    position = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * position), starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)  # the last character holds the sign
    # from the fourth on, a run is stored as its difference to the one before the last
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()


def _rle_problem(segmentation: dict[str, Any], image: dict[str, Any] | None) -> str | None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if image and size != [image["height"], image["width"]]:
        return f"RLE size {size!r}, image is [{image['height']}, {image['width']}] (height, width)"
    if not isinstance(size, list) or len(size) != 2 or not all(map(is_whole, size)):
        return f"RLE size {size!r}, expected [height, width]"
    if isinstance(counts, str):
        try:
            counts = decode_counts(counts)
        except ValueError as error:
            return f"compressed RLE {error}"
    elif not isinstance(counts, list) or not all(map(is_whole, counts)):
        return f"RLE counts are a {type(counts).__name__}, expected a list of integers or a string"
    if any(run < 0 for run in counts):
        return f"RLE is damaged: a run of {int(min(counts))} px"
    pixels = int(size[0] * size[1])
    return None if sum(counts) == pixels else f"RLE covers {int(sum(counts))} of {pixels} px"


def mask_problem(segmentation: Any, image: dict[str, Any] | None) -> str | None:
    """Describe what is wrong with a segmentation; ``None`` for valid polygons, valid RLE, and an empty list.

    Args:
        segmentation: value read from JSON.
        image: entry of its image, whose size an RLE must have; ``None`` if unknown.
    """
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation, image)
    if not isinstance(segmentation, list):
        return f"a {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list) or not all(map(is_number, polygon)):
            return "a polygon is not a flat list of numbers"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers"
    return None


def long_polygons(segmentation: list[Any]) -> list[Any] | str:
    """Return the polygons that both toolboxes read, those of at least 3 points; a text if there are none."""
    long = [part for part in segmentation if not isinstance(part, list) or (len(part) >= 6 and len(part) % 2 == 0)]
    return long or "none"
