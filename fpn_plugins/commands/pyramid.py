"""Draw the activations of every level of a detector's backbone and neck, and the level that each object belongs to.

    python tools/show_pyramid.py CONFIG CHECKPOINT IMAGE [--output work_dirs/pyramid.png]

One figure: the image with its detections, colored by the level that objects of their size are assigned to, and the mean
absolute activation of each map. CONFIG is a file of either toolbox whose detector has this package's
``PyramidBackbone``. A JSON file of the same name lists class, score, box and level of each detection.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data import fpn_level, retinanet_level
from ..features import level_names
from ..inference import read_image
from ..pyramid import Pyramid
from ..visualization.pyramid import draw_pyramid, named_levels
from .common import add_detector, load_detector, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Draw every level of backbone and neck on an image")
    add_detector(parser, "work_dirs/pyramid.png")
    parser.add_argument("image", type=Path, help="image file")
    return parser.parse_args(argv)


class Recorder:
    """Record the maps of the last image that went through a ``PyramidBackbone`` of either toolbox.

    Raises:
        ValueError: ``pyramid`` is another module, or has no neck.
    """

    def __init__(self, pyramid: nn.Module) -> None:
        backbone, neck = pyramid.parts() if isinstance(pyramid, Pyramid) else (None, None)
        if backbone is None or neck is None:
            raise ValueError(f"{type(pyramid).__name__} is not a PyramidBackbone of fpn_plugins with a neck")
        in_specs: Any = backbone.feature_specs
        self.names = {"backbone": level_names(in_specs, "c"), "neck": level_names(neck.out_specs(in_specs))}
        self.maps: dict[str, Sequence[Tensor]] = {}
        for name, part in (("backbone", backbone), ("neck", neck)):
            part.register_forward_hook(lambda module, inputs, output, name=name: self.maps.update({name: output}))

    def rows(self) -> dict[str, dict[str, Tensor]]:
        """Maps ``C H W`` of the first image by part and level, as `draw_pyramid` takes them."""
        return {part: named_levels(maps, self.names[part]) for part, maps in self.maps.items()}


def assign_levels(
    objects: Sequence[dict[str, Any]], shape: Sequence[int], size: Sequence[int], one_stage: bool
) -> None:
    """Set ``level`` of each object by the size of its box when an image of ``shape`` is resized to ``size``.

    ``one_stage`` assigns levels as RetinaNet does; otherwise they are assigned as in FPN.
    """
    scale = min(size[0] / min(shape), size[1] / max(shape))
    rule = retinanet_level if one_stage else fpn_level
    for entry in objects:
        width, height = (side * scale for side in entry["bbox"][2:])
        entry["level"] = f"p{int(rule(width, height))}"


def main(argv: Sequence[str] | None = None) -> None:
    """Detect on the image and draw the figure."""
    args = parse_args(argv)
    with user_errors():
        detector = load_detector(args.config, args.checkpoint, args.size, args.annotations)
        recorder = Recorder(detector.model.backbone)
        image = read_image(args.image)
        objects = detector.find(image, args.score)
        one_stage = not any(hasattr(detector.model, name) for name in ("roi_head", "roi_heads"))
        assign_levels(objects, image.shape[:2], args.size, one_stage)
        content = {"image": str(args.image), "classes": detector.names, "objects": objects}
        write_json(content, args.output.with_suffix(".json"))
        title = f"{Path(args.config.split('::')[-1]).stem}: mean |activation|"
        print(f"wrote {draw_pyramid(image, recorder.rows(), args.output, title, objects)}")
