"""Draw the background of the synthetic set as stuff: up to three regions that differ in pattern, never in color.

plain     the texture of every background
hatched   with diagonal lines
dotted    with a grid of dots
"""

import numpy as np

STUFF: tuple[str, ...] = ("plain", "hatched", "dotted")

_PERIOD = 9.0  # of lines and dots in px: a cell of stride 4 covers less than one period, a cell of stride 16 several
_CONTRAST = 45.0  # of 255; the contrast of objects with their background is twice as large


def draw_stuff(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Divide an image into one to three bands of different stuff, with wavy borders.

    Args:
        height: in px.
        width: in px.
        rng: source of all random numbers.

    Returns:
        Index into `STUFF` of each pixel; uint8, shape H x W.
    """
    kinds = rng.permutation(len(STUFF))[: rng.integers(1, len(STUFF) + 1)]
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    x, y = np.linspace(-0.5, 0.5, width)[None, :], np.linspace(-0.5, 0.5, height)[:, None]
    across, along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    position = across + rng.uniform(0, 0.06) * np.sin(2 * np.pi * along * rng.uniform(0.5, 2) + phase)
    borders = (np.arange(1, len(kinds)) + rng.uniform(-0.2, 0.2, size=len(kinds) - 1)) / len(kinds) - 0.5
    return kinds[np.digitize(position, borders)].astype(np.uint8)


def paint_stuff(canvas: np.ndarray, stuff: np.ndarray) -> None:
    """Paint the pattern of each region over the background's texture, in place.

    Args:
        canvas: RGB, 0..255, floating point, shape H x W x 3; modified.
        stuff: result of `draw_stuff`, shape H x W.
    """
    y, x = np.indices(stuff.shape)
    lines = np.abs((x + y) % _PERIOD - _PERIOD / 2) < _PERIOD / 6
    dots = np.hypot(x % _PERIOD - _PERIOD / 2, y % _PERIOD - _PERIOD / 2) < _PERIOD / 4
    for name, pattern in (("hatched", lines), ("dotted", dots)):
        canvas[pattern & (stuff == STUFF.index(name))] += _CONTRAST
