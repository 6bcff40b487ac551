"""The background of the synthetic set as stuff: up to three regions that differ in their surface, never in colour.

plain     the texture of every background
hatched   with diagonal lines
dotted    with a grid of dots
"""

import numpy as np

STUFF: tuple[str, ...] = ("plain", "hatched", "dotted")

_PERIOD = 9.0  # of lines and dots, in px: a cell of stride 4 sees less than one of them, one of stride 16 several
_CONTRAST = 45.0  # of 255; objects contrast with what they cover by twice that


def draw_stuff(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Divide an image into one to three bands of different stuff, with wavy borders.

    Args:
        height: in px.
        width: in px.
        rng: source of every random number.

    Returns:
        Index into `STUFF` of each pixel. uint8, shape H x W.
    """
    kinds = rng.permutation(len(STUFF))[: rng.integers(1, len(STUFF) + 1)]
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    x, y = np.linspace(-0.5, 0.5, width)[None, :], np.linspace(-0.5, 0.5, height)[:, None]
    across, along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    position = across + rng.uniform(0, 0.06) * np.sin(2 * np.pi * along * rng.uniform(0.5, 2) + phase)
    borders = (np.arange(1, len(kinds)) + rng.uniform(-0.2, 0.2, size=len(kinds) - 1)) / len(kinds) - 0.5
    return kinds[np.digitize(position, borders)].astype(np.uint8)


def paint_stuff(canvas: np.ndarray, stuff: np.ndarray) -> None:
    """Paint the surface of each region over the background's texture, in place.

    Args:
        canvas: RGB, 0..255, floating point. Shape H x W x 3. Written to.
        stuff: as drawn by `draw_stuff`. Shape H x W.
    """
    y, x = np.indices(stuff.shape)
    lines = np.abs((x + y) % _PERIOD - _PERIOD / 2) < _PERIOD / 6
    dots = np.hypot(x % _PERIOD - _PERIOD / 2, y % _PERIOD - _PERIOD / 2) < _PERIOD / 4
    for name, pattern in (("hatched", lines), ("dotted", dots)):
        canvas[pattern & (stuff == STUFF.index(name))] += _CONTRAST
