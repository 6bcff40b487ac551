"""Paint a scene as a camera of four channels sees it: objects hide in the colors, and glow in the infrared."""

from pathlib import Path

import numpy as np

from fpn_plugins.extras import needed_for

from .scene import Scene
from .shapes import paint_background, paint_object

MAX_VALUE = 4095  # a camera of 12 bits, in files of 16
CAMOUFLAGE = 0.06  # share of an object's contrast that its colors keep
_GLOW = 0.5  # infrared values per unit of contrast
_COLD = 0.3  # infrared values per unit of the background's brightness


def paint_infrared(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint a scene.

    Args:
        scene: result of `draw_scene`.
        rng: source of textures, colors and noise.

    Returns:
        Red, green, blue and infrared; uint16, shape H x W x 4, at most `MAX_VALUE`.
    """
    background = paint_background(scene.height, scene.width, rng)
    canvas = background.copy()
    for scene_object in scene.objects:
        paint_object(canvas, scene_object.mask, scene_object.category, scene_object.center, scene_object.axes, rng)
    contrast = canvas - background
    infrared = _COLD * background.mean(axis=2) + _GLOW * np.linalg.norm(contrast, axis=2)
    pixels = np.dstack([background + CAMOUFLAGE * contrast, infrared])
    pixels += rng.standard_normal(pixels.shape) * rng.uniform(2, 6)
    return np.clip(pixels * (MAX_VALUE / 255), 0, MAX_VALUE).round().astype(np.uint16)


def write_tiff(pixels: np.ndarray, path: Path) -> None:
    """Write pixels H x W x C as one page; ``ImportError`` that names the extra without tifffile."""
    with needed_for("TIFF images"):
        import tifffile

    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", metadata=None)
