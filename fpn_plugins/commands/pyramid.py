"""Show what every level of a detector's backbone and neck responds to, and which level each object belongs to.

    python tools/show_pyramid.py CONFIG CHECKPOINT IMAGE [--output work_dirs/pyramid.png]

One figure: the image with its detections, coloured by the level whose objects have their size, and under it the mean
absolute activation of each map. CONFIG is a file of either toolbox whose detector has this package's
``PyramidBackbone``. Beside it a JSON file says for each detection its class, score, box and level.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..adapters.hosts import class_names, host_of
from ..data import fpn_level, retinanet_level
from ..features import level_names
from ..files import write_atomically
from ..inference import read_image
from .common import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Every level of backbone and neck on an image")
    parser.add_argument("config")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--output", type=Path, default=Path("work_dirs/pyramid.png"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"), help="in pixels")
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--annotations", type=Path, help="COCO-format file, for the names of the classes")
    return parser.parse_args()


class Recorder:
    """The maps of the last image that went through a backbone and its neck."""

    def __init__(self, backbone: Any) -> None:
        parts = {"backbone": getattr(backbone, "bottom_up", getattr(backbone, "backbone", None)), "neck": None}
        parts["neck"] = getattr(backbone, "neck", None)
        if any(not hasattr(part, "register_forward_hook") for part in parts.values()):
            raise ValueError(
                f"{type(backbone).__name__} is not a PyramidBackbone of fpn_plugins, whose parts are known"
            )
        in_specs = parts["backbone"].feature_specs
        self.specs = {"backbone": in_specs, "neck": parts["neck"].out_specs(in_specs)}
        self.maps: dict[str, Any] = {}
        for name, part in parts.items():
            part.register_forward_hook(lambda module, inputs, output, name=name: self.maps.update({name: output}))

    def rows(self) -> dict[str, dict[str, Any]]:
        """What `draw_pyramid` takes."""
        prefixes = {"backbone": "c", "neck": "p"}
        return {
            part: {
                name: feature[0]
                for name, feature in zip(level_names(self.specs[part], prefixes[part]), maps, strict=True)
            }
            for part, maps in self.maps.items()
        }


def levels_of(objects: list[dict[str, Any]], shape: tuple[int, int], size: tuple[int, int], one_stage: bool) -> None:
    """Write into each object the level whose objects have its size, after the resizing of the image."""
    scale = min(size[0] / min(shape), size[1] / max(shape))
    rule = retinanet_level if one_stage else fpn_level
    for entry in objects:
        width, height = (side * scale for side in entry["bbox"][2:])
        entry["level"] = f"p{int(rule(width, height))}"


def main() -> None:
    """Detect, and draw."""
    from ..visualization import draw_pyramid

    args = parse_args()
    with user_errors():
        host = host_of(args.config)
        model = host.load(args.config, str(args.checkpoint))
        recorder = Recorder(model.backbone)
        image = read_image(args.image)
        names = dict(enumerate(class_names(args.config, model, args.annotations)))
        found = host.Predictor(model, *args.size)(image).to_coco(0, list(names))
        objects = [entry for entry in found if entry["score"] >= args.score]
        one_stage = not any(hasattr(model, name) for name in ("roi_head", "roi_heads"))
        levels_of(objects, image.shape[:2], tuple(args.size), one_stage)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        title = f"{Path(args.config.split('::')[-1]).stem}: mean |activation|"
        print(f"wrote {draw_pyramid(image, recorder.rows(), args.output, title, objects)}")
        with write_atomically(args.output.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"image": str(args.image), "classes": names, "objects": objects}, indent=1))
