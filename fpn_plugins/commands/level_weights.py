"""Weights of RetinaNet's levels from the object sizes of a data set, and the config lines that use them.

    python tools/level_weights.py data/coco/annotations/instances_train2017.json --json weights.json --plot weights.png

The weights are for ``fpn_plugins.RetinaHead`` in mmdet and ``FPNPluginsRetinaNet`` in Detectron2.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..data import level_weight_report, plot_level_weights
from ..files import write_atomically


def parse_args() -> argparse.Namespace:
    """Command line; anchors as in mmdet's ``anchor_generator``."""
    parser = argparse.ArgumentParser(description="Weigh RetinaNet's levels by the object sizes of a data set")
    parser.add_argument("ann_file", type=Path, help="COCO annotation file")
    parser.add_argument("--strides", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="of the head's levels")
    parser.add_argument("--octave-base-scale", type=float, default=4, help="smallest anchor of a level in strides")
    parser.add_argument("--scales-per-octave", type=int, default=3, help="anchor sizes of a level")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--resize", type=int, nargs=2, default=[800, 1333], metavar=("SHORT", "LONG"), help="image size in training"
    )
    size.add_argument("--no-resize", action="store_true", help="training takes the images as they are")
    parser.add_argument("--exponent", type=float, default=0.5, help="0 is equal weights, 1 inverse frequency")
    parser.add_argument("--smoothing", type=float, default=0.1, help="share of the uniform distribution mixed in")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the table into this file")
    return parser.parse_args()


def print_table(report: dict[str, Any]) -> None:
    """One row per level."""
    size = " x ".join(map(str, report["resize"])) if report["resize"] else "their own size"
    print(f"{report['ann_file']}: {report['objects']} objects, images at {size}")
    print(f"{'level':<8}{'anchors (px)':<24}{'objects':>9}{'share':>8}{'weight':>9}")
    for level in report["levels"]:
        anchors = ", ".join(f"{side:.0f}" for side in level["anchor_sizes"])
        print(
            f"{level['level']:<8}{anchors:<24}{level['objects']:>9}{level['share']:>8.1%}{level['weight']:>9.3f}",
        )


def print_config_lines(report: dict[str, Any]) -> None:
    """What a config of either toolbox needs."""
    weights = [round(level["weight"], 3) for level in report["levels"]]
    print(f"mmdet:            bbox_head=dict(type='fpn_plugins.RetinaHead', level_weights={weights})")
    print(f"Detectron2, YAML: MODEL.META_ARCHITECTURE FPNPluginsRetinaNet MODEL.FPN_PLUGINS.LEVEL_WEIGHTS '{weights}'")
    print(f"Detectron2, lazy: model._target_ = FPNPluginsRetinaNet; model.level_weights = {weights}")


def main() -> None:
    """Run the tool."""
    args = parse_args()
    report = level_weight_report(
        args.ann_file,
        args.strides,
        args.octave_base_scale,
        args.scales_per_octave,
        None if args.no_resize else tuple(args.resize),
        args.exponent,
        args.smoothing,
    )
    print_table(report)
    print_config_lines(report)
    if args.json:
        with write_atomically(args.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if args.plot:
        plot_level_weights(report, args.plot)
