"""Evaluate one set of weights in both toolboxes, and say where they differ.

    python tools/compare_toolboxes.py --mmdet CONFIG CHECKPOINT --detectron2 CONFIG CHECKPOINT --root COCO_FOLDER \
        [--split val] [--size 800 1333] [--num-images N] [--output compare.json]

Make the second checkpoint from the first with ``tools/convert_checkpoint.py``. Both detectors get the same pixels, read
and resized once with pillow: the toolboxes' own readers interpolate differently (OpenCV, pillow), which moves AP and
says nothing about the weights. Prints AP of boxes and masks of each, the share of detections that
agree within 0.01 px and 1e-4 of score, and the images with the largest differences.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..adapters.hosts import host_of, predictor
from ..analysis import METRICS, agreement
from ..analysis.evaluation import detect
from ..data import find_split
from ..files import write_atomically
from .common import user_errors

TOOLBOXES = ("mmdet", "detectron2")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="AP of the same weights in MMDetection and in Detectron2")
    for name in TOOLBOXES:
        parser.add_argument(f"--{name}", nargs=2, required=True, metavar=("CONFIG", "CHECKPOINT"))
    parser.add_argument("--root", type=Path, required=True, help="folder of a COCO-format set")
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"), help="in pixels")
    parser.add_argument("--num-images", type=int, help="only the first N")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/compare_toolboxes.json"))
    return parser.parse_args()


def print_report(scores: dict[str, Any], agreed: Any) -> None:
    """Two columns and the differences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The same weights in both toolboxes (AP x 100, pycocotools)")
    for name in ("", *TOOLBOXES, "difference"):
        table.add_column(name, justify="left" if not name else "right")
    for kind in scores[TOOLBOXES[0]]:
        for metric in METRICS:
            one, other = (100 * scores[name][kind][metric] for name in TOOLBOXES)
            if one >= 0:
                table.add_row(f"{kind} {metric}", f"{one:.2f}", f"{other:.2f}", f"{other - one:+.2f}")
    Console(width=80).print(table)
    print(
        f"{100 * agreed.share:.2f} % of {agreed.total:.0f} detections agree; among those boxes differ by at most "
        f"{agreed.box_difference:.2g} px, scores by {agreed.score_difference:.2g}"
    )
    worst = sorted((agreed.unmatched or {}).items(), key=lambda entry: -entry[1])[:5]
    if worst:
        print("without a partner: " + ", ".join(f"{number} on image {image_id}" for image_id, number in worst))


def main() -> None:
    """Run both detectors over the images, and compare."""
    args = parse_args()
    with user_errors():
        split = find_split(args.root, args.split)
        detectors = {}
        for name in TOOLBOXES:
            config, checkpoint = getattr(args, name)
            model = host_of(config).load(config, checkpoint)
            detectors[name] = predictor(config, model, tuple(args.size), split.ann_file)
        scores, found = detect(detectors, split, args.num_images)
        image_ids = found[TOOLBOXES[0]]
        agreed = agreement((image_id, *(found[name][image_id] for name in TOOLBOXES)) for image_id in image_ids)
        print_report(scores, agreed)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(args.output) as temporary:
            temporary.write_text(
                json.dumps({"scores": scores, "agreement": {**vars(agreed), "share": agreed.share}}, indent=2)
            )
        print(f"wrote {args.output}")
