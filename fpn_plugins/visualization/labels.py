"""Draw boxes, masks and labels into an image, so that they can be told apart in a crowd."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..extras import needed_for

if TYPE_CHECKING:
    import numpy as np

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

# colors that most kinds of color blindness can tell apart (Okabe and Ito); more classes get generated ones
_COLORS: tuple[Color, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 76, 152),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
_MASK_SHARE = 0.3  # of a mask's color in its pixels
_COVERED = 0.6  # largest share of a label that may lie on small objects
_SMALLEST = 640  # px; smaller images are enlarged so that labels are legible


class Mark(NamedTuple):
    """An object to draw.

    Attributes:
        bbox: left, top, width and height in pixels.
        color: RGB, 0..255.
        label: text, most important words first; they are left out where there is no room.
        mask: ``H W`` booleans.
        score: marks with a high score get their label first.
    """

    bbox: Sequence[float]
    color: Color
    label: str = ""
    mask: np.ndarray | None = None
    score: float = 1.0


def color_of(index: int) -> Color:
    """Return the color of a class, or of another index from 0."""
    if index < len(_COLORS):
        return _COLORS[index]
    step = index - len(_COLORS)
    red, green, blue = colorsys.hls_to_rgb(
        (0.48 + 0.618034 * step) % 1, (0.42, 0.6, 0.5)[step % 3], (0.9, 0.65)[step % 2]
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def annotate(image: np.ndarray, marks: Sequence[Mark], enlarge: bool = True) -> np.ndarray:
    """Draw marks into a copy of an image ``H W 3``, RGB, 0..255.

    Widths and letters grow with the image, and letters are smaller in a crowd. Small objects are drawn over large ones.
    A label goes where it covers the least of small objects. It is shortened, or else left out, where there is no free
    place next to its box or in it: labels never cover each other.

    Args:
        image: the image.
        marks: objects to draw.
        enlarge: enlarge images with a longer side below 640 pixels to that size; otherwise, the size is kept.
    """
    with needed_for("pictures"):
        import numpy as np
        from PIL import Image, ImageDraw

    factor = max(1.0, _SMALLEST / max(image.shape[:2])) if enlarge else 1.0
    width, height = (round(side * factor) for side in image.shape[1::-1])
    marks = sorted(marks, key=lambda mark: -mark.bbox[2] * mark.bbox[3])
    canvas = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    for mark in marks:
        if mark.mask is not None:
            _blend(canvas, np.array(Image.fromarray(mark.mask).resize((width, height))), mark.color)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    unit = (width * height) ** 0.5
    boxes = [_corners(mark.bbox, factor, width, height) for mark in marks]
    for mark, box in zip(marks, boxes, strict=True):
        draw.rectangle(box, outline=mark.color, width=max(1, round(unit / 350)))
    crowd = max(1.0, len(marks) / 10) ** 0.25
    _draw_labels(draw, marks, boxes, (width, height), max(9.0, unit / 46 / crowd))
    return np.asarray(picture)


def _corners(bbox: Sequence[float], factor: float, width: int, height: int) -> Rectangle:
    """Return the corners of a box in the drawn image, inside it and in order."""
    left, top = (
        min(max(0.0, value * factor), side - 1.0) for value, side in zip(bbox[:2], (width, height), strict=True)
    )
    right, bottom = (bbox[0] + bbox[2]) * factor, (bbox[1] + bbox[3]) * factor
    return left, top, min(max(left, right), width - 1.0), min(max(top, bottom), height - 1.0)


def _blend(canvas: np.ndarray, mask: np.ndarray, color: Color) -> None:
    """Color the pixels of a mask, and its edge fully."""
    with needed_for("pictures"):
        import numpy as np

    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        return
    around = tuple(slice(max(0, found[0] - 1), found[-1] + 2) for found in (rows, columns))
    canvas, mask = canvas[around], mask[around]  # a view: large images with many masks take long otherwise
    inside = mask.copy()
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inside &= np.roll(mask, shift, axis)
    canvas[mask] = canvas[mask] * (1 - _MASK_SHARE) + np.array(color) * _MASK_SHARE
    canvas[mask & ~inside] = color


def _draw_labels(
    draw: Any, marks: Sequence[Mark], boxes: Sequence[Rectangle], size: tuple[int, int], height: float
) -> None:
    with needed_for("pictures"):
        from PIL import ImageFont

    font: Any = ImageFont.load_default(height)
    line, pad = sum(font.getmetrics()), max(1, round(height / 6))

    def measure(text: str) -> tuple[float, float]:
        return draw.textlength(text, font) + 2 * pad, line

    for mark, text, place in place_labels(marks, boxes, size, measure):
        dark = 0.299 * mark.color[0] + 0.587 * mark.color[1] + 0.114 * mark.color[2] < 140
        draw.rectangle(place, fill=mark.color)
        draw.text((place[0] + pad, place[1]), text, fill="white" if dark else "black", font=font)


def place_labels(
    marks: Sequence[Mark],
    boxes: Sequence[Rectangle],
    size: tuple[int, int],
    measure: Callable[[str], tuple[float, float]],
) -> Iterator[tuple[Mark, str, Rectangle]]:
    """Yield marks with the text of their label and its place; no two places overlap.

    Args:
        marks: objects; those with a high score choose first.
        boxes: box of each mark in the drawn image.
        size: width and height of the drawn image.
        measure: function that returns width and height of a text.
    """
    taken: list[Rectangle] = []
    for mark, box in sorted(zip(marks, boxes, strict=True), key=lambda pair: -pair[0].score):
        words = mark.label.split()
        for count in range(len(words), 0, -1):
            text = " ".join(words[:count])
            place = _best_place(box, measure(text), size, taken, boxes)
            if place is not None:
                taken.append(place)
                yield mark, text, place
                break


def _best_place(
    box: Rectangle,
    extent: tuple[float, float],
    size: tuple[int, int],
    taken: Sequence[Rectangle],
    boxes: Sequence[Rectangle],
) -> Rectangle | None:
    """Choose the place, among those that no other label takes, that covers the least of small objects."""
    places = list(_places(box, extent, size))
    if not places:
        return None
    area = extent[0] * extent[1]
    small = [other for other in boxes if other != box and _area(other) < 8 * area]
    covered, occupied = _common(places, small), _common(places, taken)
    best, least = None, _COVERED * area
    for place, share, other in zip(places, covered.tolist(), occupied.tolist(), strict=True):
        if share < least and not other:
            best, least = place, share
    return best


def _places(box: Rectangle, extent: tuple[float, float], size: tuple[int, int]) -> Iterator[Rectangle]:
    """Yield places of a label in the image, next to its box or in it, the most usual ones first."""
    (left, top, right, bottom), (width, height) = box, extent
    outside = [(left, top - height), (right - width, top - height), (left, bottom), (right - width, bottom)]
    inside = [(left, top), (right - width, bottom - height), (right, top), (left - width, top)]
    roomy = right - left > 1.5 * width and bottom - top > 4 * height
    for x, y in (outside[0], inside[0], *outside[1:], *inside[1:]) if roomy else (*outside, *inside):
        x = min(max(x, 0), size[0] - 1 - width)
        if x >= 0 and y >= 0 and y + height <= size[1] - 1:
            yield x, y, x + width, y + height


def _area(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(places: Sequence[Rectangle], others: Sequence[Rectangle]) -> np.ndarray:
    """Return the area that each of ``places`` shares with all of ``others`` together."""
    with needed_for("pictures"):
        import numpy as np

    left, top, right, bottom = np.array(places).T[:, :, None]
    edges = np.array(others, float).reshape(-1, 4).T
    width = np.minimum(right, edges[2]) - np.maximum(left, edges[0])
    height = np.minimum(bottom, edges[3]) - np.maximum(top, edges[1])
    return (width.clip(0) * height.clip(0)).sum(1)
