"""Draw the README's pictures: detections on photographs of blood cells, and the pyramid of one of them.

    FPN_PLUGINS_COCO=data/bccd python tools/docs/readme_pictures.py work_dirs/cells/iter_600.pth --out docs/images

``tools/docs/cells_config.py`` says where the photographs are from, and trains the detector. Writes
``detections.jpg`` and ``pyramid.jpg``.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fpn_plugins.adapters.hosts import build_detector, host_of
from fpn_plugins.commands.common import user_errors
from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically
from fpn_plugins.inference import load_detector_weights, read_image
from fpn_plugins.visualization.figures import COLORS
from fpn_plugins.visualization.pyramid import energy

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "tools/docs/cells_config.py"
SIZE = (360, 480)  # of the config, in pixels
PHOTOGRAPHS = ("BloodImage_00409.jpg", "BloodImage_00396.jpg")  # the pyramid is that of the first
MIN_SCORE = 0.5
GAP, WIDTH = 6, 1500  # pixels
GRAY = "#8c8c8c"  # visible on light and on dark pages


class Cells:
    """The trained detector, which keeps the maps of its last image."""

    def __init__(self, checkpoint: str) -> None:
        self.model: Any = build_detector(str(CONFIG))
        load_detector_weights(self.model, checkpoint)
        self.predict = host_of(str(CONFIG)).Predictor(self.model, *SIZE)
        self.names = [category["name"] for category in self._categories()]
        self.maps: Sequence[Tensor] = ()
        self.model.backbone.register_forward_hook(self._keep)

    @staticmethod
    def _categories() -> list[dict[str, Any]]:
        from pycocotools.coco import COCO

        coco = COCO(str(find_split(os.environ["FPN_PLUGINS_COCO"], "val").ann_file))
        return coco.loadCats(coco.getCatIds())

    def _keep(self, module: Any, inputs: Any, maps: Sequence[Tensor]) -> None:
        self.maps = [x[0] for x in maps]

    def levels(self) -> dict[str, Tensor]:
        """Energy of each level on the last image, without the padding."""
        crops = {f"p{level}": [math.ceil(side / 2**level) for side in SIZE] for level in range(2, 7)}
        levels = zip(crops.items(), self.maps, strict=True)
        return {name: energy(x[:, :height, :width]) for (name, (height, width)), x in levels}

    def level_of(self, boxes: Tensor, scale: float) -> list[str]:
        """Level that the detector's second stage reads for each box, by its own rule."""
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes * scale], dim=1)
        extractor = self.model.roi_head.bbox_roi_extractor
        return [f"on p{2 + int(index)}" for index in extractor.map_roi_levels(rois, extractor.num_inputs)]


def new_tiles(columns: int, rows: int) -> tuple[Any, list[Any]]:
    """Make a figure of `WIDTH` pixels with tiles of 4 : 3, and list their axes."""
    from matplotlib.figure import Figure

    width = (WIDTH - GAP * (columns - 1)) / columns
    height = 0.75 * width * rows + GAP * (rows - 1)
    figure = Figure(figsize=(WIDTH / 100, height / 100), facecolor=GRAY)
    axes = []
    for row in range(rows):
        for column in range(columns):
            left, bottom = column * (width + GAP), height - 0.75 * width * (row + 1) - row * GAP
            axes.append(figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, 0.75 * width / height)))
            axes[-1].set_axis_off()
    return figure, axes


def draw_cells(axis: Any, image: np.ndarray, boxes: Tensor, kinds: Sequence[str], colors: dict[str, str]) -> None:
    """Draw boxes in the colors of their kinds, with a legend in the corner."""
    from matplotlib.patches import Rectangle

    axis.imshow(image)
    for (x0, y0, x1, y1), kind in zip(boxes.tolist(), kinds, strict=True):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colors[kind], linewidth=2.2))
    handles = [
        Rectangle((0, 0), 1, 1, color=color, label=f"{kinds.count(kind)} {kind}") for kind, color in colors.items()
    ]
    axis.legend(handles=handles, loc="lower left", fontsize=11, framealpha=0.85, borderpad=0.4, handlelength=0.9)


def draw_level(axis: Any, image: np.ndarray, name: str, strength: Tensor) -> None:
    """Draw a level over a gray copy of the photograph."""
    from matplotlib.patheffects import withStroke

    rows, columns = strength.shape
    height, width = image.shape[:2]
    axis.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    axis.imshow(strength.numpy(), cmap="magma", alpha=0.72, extent=(0, width, height, 0), vmin=0, vmax=1)
    text = f"{name}: stride {2 ** int(name[1:])}, {rows} x {columns}"
    effects = [withStroke(linewidth=3, foreground="black")]
    axis.text(0.03, 0.95, text, transform=axis.transAxes, va="top", fontsize=14, color="white", path_effects=effects)


def save(figure: Any, path: Path) -> None:
    """Write a JPEG."""
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=100, format="jpg", pil_kwargs={"quality": 88, "optimize": True})
    print(path)


def main() -> None:
    """Detect and draw."""
    parser = argparse.ArgumentParser(description="Draw the README's pictures")
    parser.add_argument("checkpoint", help="of tools/docs/cells_config.py")
    parser.add_argument("--out", type=Path, required=True, help="folder to write: docs/images")
    args = parser.parse_args()
    with user_errors():
        cells = Cells(args.checkpoint)
        by_class, by_level = (
            dict(zip(names, COLORS, strict=False)) for names in (cells.names, ("on p2", "on p3", "on p4"))
        )
        figure, tiles = new_tiles(2, 1)
        pyramid, (first, *others) = new_tiles(3, 2)
        for axis, name in zip(tiles, reversed(PHOTOGRAPHS), strict=True):
            image = read_image(find_split(os.environ["FPN_PLUGINS_COCO"], "val").image_dir / name)
            found = cells.predict(image)
            kept = found.scores >= MIN_SCORE
            draw_cells(axis, image, found.boxes[kept], [cells.names[i] for i in found.labels[kept]], by_class)
        levels = cells.level_of(found.boxes[kept], SIZE[0] / image.shape[0])
        draw_cells(first, image, found.boxes[kept], levels, by_level)
        for axis, (level, strength) in zip(others, cells.levels().items(), strict=True):
            draw_level(axis, image, level, strength)
        save(figure, args.out / "detections.jpg")
        save(pyramid, args.out / "pyramid.jpg")


if __name__ == "__main__":
    main()
