"""Weigh RetinaNet's levels by the object sizes of a data set, and print the config lines that use the weights.

    python tools/level_weights.py data/coco/annotations/instances_train2017.json --json weights.json --plot weights.png

The weights are for ``fpn_plugins.RetinaHead`` in MMDetection and ``FPNPluginsRetinaNet`` in Detectron2.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import level_weight_report
from ..data.level_weights import RETINANET_STRIDES
from ..visualization import plot_level_weights
from .common import COUNT, NOT_NEGATIVE, PIXELS, POSITIVE, SHARE, add_reports, add_size, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; anchors are described as in mmdet's ``anchor_generator``."""
    parser = argparse.ArgumentParser(description="Weigh RetinaNet's levels by the object sizes of a data set")
    parser.add_argument("ann_file", type=Path, help="COCO annotation file")
    parser.add_argument("--strides", type=PIXELS, nargs="+", default=RETINANET_STRIDES, help="level strides, in pixels")
    parser.add_argument("--octave-base-scale", type=POSITIVE, default=4, help="a level's smallest anchor, in strides")
    parser.add_argument("--scales-per-octave", type=COUNT, default=3, help="number of anchor sizes per level")
    size = parser.add_mutually_exclusive_group()
    add_size(size, "image size in training")
    size.add_argument("--no-resize", action="store_true", help="images keep their size in training")
    parser.add_argument("--exponent", type=NOT_NEGATIVE, default=0.5, help="0: equal weights, 1: inverse frequency")
    parser.add_argument("--smoothing", type=SHARE, default=0.1, help="share of a uniform distribution to mix in")
    add_reports(parser, "the table")
    return parser.parse_args(argv)


def print_report(report: dict[str, Any]) -> None:
    """Print one row per level, and the line for each kind of config."""
    size = " x ".join(map(str, report["resize"])) if report["resize"] else "original size"
    print(f"{report['ann_file']}: {report['objects']} objects, images at {size}")
    print(f"{'level':<8}{'anchors (px)':<24}{'objects':>9}{'share':>8}{'weight':>9}")
    for row in report["levels"]:
        anchors = ", ".join(f"{side:.0f}" for side in row["anchor_sizes"])
        print(f"{row['level']:<8}{anchors:<24}{row['objects']:>9}{row['share']:>8.1%}{row['weight']:>9.3f}")
    weights = [round(row["weight"], 3) for row in report["levels"]]
    print(f"mmdet:            bbox_head=dict(type='fpn_plugins.RetinaHead', level_weights={weights})")
    print(f"Detectron2, YAML: MODEL.META_ARCHITECTURE FPNPluginsRetinaNet MODEL.FPN_PLUGINS.LEVEL_WEIGHTS '{weights}'")
    print(f"Detectron2, lazy: model._target_ = FPNPluginsRetinaNet; model.level_weights = {weights}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compute the weights, print and write them."""
    args = parse_args(argv)
    with user_errors():
        resize = None if args.no_resize else tuple(args.size)
        anchors = (args.strides, args.octave_base_scale, args.scales_per_octave)
        report = level_weight_report(args.ann_file, *anchors, resize, args.exponent, args.smoothing)
        print_report(report)
        if args.json:
            write_json(report, args.json)
        if args.plot:
            plot_level_weights(report, args.plot)
