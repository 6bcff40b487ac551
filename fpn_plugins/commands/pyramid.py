"""Draw the activations of every level of a detector's backbone and neck, and the level of each object.

    python tools/show_pyramid.py CONFIG CHECKPOINT IMAGE [--out work_dirs/pyramid.png]

The figure shows the image with its detections, colored by the level that their size is assigned to, and the mean
absolute activation of each map. CONFIG is a file of either toolbox, with a backbone and a neck of any package. A JSON
file of the same name lists class, score, box and level of each detection.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..compat import uncompiled
from ..data import to_picture
from ..visualization import draw_pyramid
from ..watching import assign_levels, is_one_stage, record_levels
from .common import user_errors, write_json
from .detector_options import add_detector, detector_of


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Draw every level of backbone and neck on an image")
    add_detector(parser, "work_dirs/pyramid.png")
    parser.add_argument("image", type=Path, help="image file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Detect on the image and draw the figure."""
    args = parse_args(argv)
    with user_errors():
        detector = detector_of(args)
        image = detector.predict.read(args.image, detector.toolbox)
        with uncompiled(), record_levels(detector.model) as maps:
            objects = detector.find(image, args.score)
        height, width = detector.predict.rule.size_of(*image.shape[:2])
        assign_levels(objects, (width / image.shape[1], height / image.shape[0]), is_one_stage(detector.model))
        content = {"image": str(args.image), "classes": detector.names, "objects": objects}
        write_json(content, args.out.with_suffix(".json"))
        title = f"{Path(args.config.split('::')[-1]).stem}: mean |activation|"
        covered = maps.covered_size(image.shape[:2], (height, width))
        print(f"wrote {draw_pyramid(to_picture(image), maps.rows, args.out, title, objects, covered)}")
