"""Draw the activations of every level of a detector's backbone and neck, and the level of each object.

    python tools/show_pyramid.py CONFIG CHECKPOINT IMAGE [--out work_dirs/pyramid.png]

The figure shows the image with its detections, colored by the level that their size is assigned to, and the mean
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
from .common import user_errors, write_json
from .detector_options import add_detector, detector_of


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Draw every level of backbone and neck on an image")
    add_detector(parser, "work_dirs/pyramid.png")
    parser.add_argument("image", type=Path, help="image file")
    return parser.parse_args(argv)


def record_maps(pyramid: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return a dict, part -> level -> map ``C H W``, that each forward pass of ``pyramid`` fills.

    Raises:
        ValueError: ``pyramid`` is not a ``PyramidBackbone`` of either toolbox, or has no neck.
    """
    backbone, neck = pyramid.parts() if isinstance(pyramid, Pyramid) else (None, None)
    if backbone is None or neck is None:
        raise ValueError(f"{type(pyramid).__name__} is not a PyramidBackbone of fpn_plugins with a neck")
    rows: dict[str, dict[str, Tensor]] = {}
    in_specs: Any = backbone.feature_specs
    parts = {"backbone": (backbone, level_names(in_specs, "c")), "neck": (neck, level_names(neck.out_specs(in_specs)))}
    for part, (module, names) in parts.items():

        def record(module: nn.Module, inputs: Any, maps: Any, part: str = part, names: Any = names) -> None:
            rows[part] = named_levels(maps, names)

        module.register_forward_hook(record)
    return rows


def assign_levels(objects: list[dict[str, Any]], scales: Sequence[float], one_stage: bool) -> None:
    """Set each object's ``level`` by RetinaNet's rule (``one_stage``) or FPN's.

    Args:
        objects: objects in COCO's format.
        scales: factors by which the image's width and height are resized.
        one_stage: whether the detector is a RetinaNet.
    """
    rule = retinanet_level if one_stage else fpn_level
    for entry in objects:
        width, height = (side * scale for side, scale in zip(entry["bbox"][2:], scales, strict=True))
        entry["level"] = f"p{int(rule(width, height))}"


def main(argv: Sequence[str] | None = None) -> None:
    """Detect on the image and draw the figure."""
    args = parse_args(argv)
    with user_errors():
        detector = detector_of(args)
        rows = record_maps(detector.model.backbone)
        image = read_image(args.image, detector.toolbox)
        objects = detector.find(image, args.score)
        one_stage = not any(hasattr(detector.model, name) for name in ("roi_head", "roi_heads"))
        height, width = detector.predict.rule.size_of(*image.shape[:2])
        assign_levels(objects, (width / image.shape[1], height / image.shape[0]), one_stage)
        content = {"image": str(args.image), "classes": detector.names, "objects": objects}
        write_json(content, args.out.with_suffix(".json"))
        title = f"{Path(args.config.split('::')[-1]).stem}: mean |activation|"
        print(f"wrote {draw_pyramid(image, rows, args.out, title, objects)}")
