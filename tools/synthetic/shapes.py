"""Outlines and patterns of the four object categories of the synthetic set, and the texture of the background.

Categories differ in shape and in pattern, never in color, so that a detector has to use both contour and surface and
can still tell two objects apart at about 12 px:

    disc      a darker or lighter rim
    box       five stripes
    triangle  checks
    star      a dot in the middle and one in each arm

Outlines and patterns are in object coordinates: the outline has area 1 and its centroid in the origin, so an object of
side `s` covers `s * s` px, and `s` compares directly with the limits of COCO's size classes (32 and 96).
"""

from collections.abc import Callable

import numpy as np

CATEGORIES: tuple[str, ...] = ("disc", "box", "triangle", "star")

_STAR_INNER = 0.5
_DISC_VERTICES = 40
# Contrast is Euclidean distance in RGB (0..441); below about 80, small objects vanish in the background texture.
_MIN_CONTRAST = 90.0
_MIN_PATTERN_CONTRAST = 120.0


def _regular(radii: list[float], vertices: int) -> np.ndarray:
    """Polygon in polar form; `radii` repeats around the circle, and the first vertex is on top (negative y)."""
    angles = 2 * np.pi * np.arange(vertices) / vertices - np.pi / 2
    radius = np.resize(radii, vertices)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def polygon_area(points: np.ndarray) -> float:
    """Compute the area of a simple polygon by the shoelace formula.

    Args:
        points: vertices x, y in order, shape N x 2.

    Returns:
        Area in squared units of `points`, never negative.
    """
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _unit_area(points: np.ndarray) -> np.ndarray:
    return points / np.sqrt(polygon_area(points))


_OUTLINES: dict[str, np.ndarray] = {
    "disc": _unit_area(_regular([1.0], _DISC_VERTICES)),
    "box": np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]),
    "triangle": _unit_area(_regular([1.0], 3)),
    "star": _unit_area(_regular([1.0, _STAR_INNER], 10)),
}


def unit_outline(category: str) -> np.ndarray:
    """Outline of a category in object coordinates.

    Args:
        category: one of `CATEGORIES`.

    Returns:
        Vertices x, y of a polygon of area 1 around the origin, shape N x 2.

    Raises:
        ValueError: unknown category.
    """
    if category not in _OUTLINES:
        raise ValueError(f"category={category!r} is unknown; expected one of {', '.join(CATEGORIES)}")
    return _OUTLINES[category]


def _rim(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.4


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin(5 * np.pi * (u + 0.5)) / (5 * np.pi)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cell = 0.32
    return np.sin(np.pi * u / cell) * np.sin(np.pi * v / cell) * cell / np.pi


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    arms = _regular([0.46], 5)
    distance = 0.2 - np.hypot(u, v)
    for x, y in arms:
        distance = np.maximum(distance, 0.1 - np.hypot(u - x, v - y))
    return distance


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": _rim,
    "box": _stripes,
    "triangle": _checks,
    "star": _dots,
}


def _contrasting_color(rng: np.random.Generator, others: list[np.ndarray], minimum: float) -> np.ndarray:
    """First of 32 random colors that is `minimum` away from all others, else the farthest one."""
    candidates = rng.uniform(10, 245, size=(32, 3))
    distance = np.min([np.linalg.norm(candidates - other, axis=1) for other in others], axis=0)
    enough = distance >= minimum
    return candidates[np.argmax(enough) if enough.any() else np.argmax(distance)]


def paint_object(
    canvas: np.ndarray,
    mask: np.ndarray,
    category: str,
    center: np.ndarray,
    axes: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Paint one object over the canvas, in place.

    Colors are random but contrast with the background, so the color says nothing about the category.

    Args:
        canvas: RGB, 0..255, floating point, shape H x W x 3; modified.
        mask: pixels of the object; boolean, shape H x W.
        category: one of `CATEGORIES`.
        center: position x, y of the object's origin in px, 0 is the left/top edge of the image.
        axes: columns are the object's u and v unit vectors in px, shape 2 x 2.
        rng: source of colors and shading.
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return
    behind = canvas[ys, xs].mean(axis=0)
    ground = _contrasting_color(rng, [behind], _MIN_CONTRAST)
    figure = _contrasting_color(rng, [ground, behind], _MIN_PATTERN_CONTRAST)
    u, v = np.linalg.inv(axes) @ (np.stack([xs, ys]) + 0.5 - center[:, None])
    # a ramp one pixel wide: the pattern is anti-aliased, the contour is not, because it has to equal the annotation
    pixels_per_unit = np.sqrt(abs(np.linalg.det(axes)))
    share = np.clip(0.5 + _PATTERNS[category](u, v) * pixels_per_unit, 0, 1)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    shade = 1 + 0.2 * (np.cos(angle) * u + np.sin(angle) * v)[:, None]
    canvas[ys, xs] = (ground * (1 - share) + figure * share) * shade


def _smooth_noise(height: int, width: int, cells: np.ndarray) -> np.ndarray:
    from PIL import Image

    layer = Image.fromarray(cells.astype(np.float32))
    return np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))


def paint_background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Paint a textured background: a color gradient, clouds of color, and six octaves of noise with a random grain.

    Args:
        height: in px.
        width: in px.
        rng: source of all random numbers.

    Returns:
        RGB, about 0..255, not clipped; float32, shape H x W x 3.
    """
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, width)[None, :] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    canvas = rng.uniform(50, 205, size=3) + ramp[..., None] * rng.normal(0, 25, size=3)
    clouds = rng.normal(0, rng.uniform(5, 25), size=(3, 3, 4))
    canvas += np.stack([_smooth_noise(height, width, cells) for cells in clouds], axis=-1)
    # unequal numbers of cells along x and y stretch the noise into grain or streaks, different in each image
    stretch = np.exp(rng.normal(0, 0.5))
    for octave in range(6):
        cells = 2.0 ** (octave + 2)
        rows, columns = int(max(2, cells * stretch)), int(max(2, cells / stretch))
        amplitude = rng.uniform(3, 20) / (octave + 1) ** 0.7
        canvas += _smooth_noise(height, width, rng.normal(0, amplitude, size=(rows, columns)))[..., None]
    return canvas.astype(np.float32)
