"""Count parameters, MACs and activations by component, without weights or data.

    python tools/analyze_cost.py --backbone resnet50 --neck FPN PAFPN --size 800 1344
    python tools/analyze_cost.py configs/mmdet/mask_rcnn_r50_fpn_12e.py configs/detectron2/mask_rcnn_r50_fpn_12e.py
    python tools/analyze_cost.py detectron2::COCO-Detection/faster_rcnn_R_50_C4_1x.yaml --plot cost.png --json cost.json

Prints Markdown; ``--json`` and ``--plot`` write files. ``--measure`` also measures peak memory and time of backbone and
neck, each in a fresh process, on the GPU if one is available.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from typing import Any

from ..adapters.config_errors import trying
from ..adapters.hosts import detector_cost
from ..analysis import CostReport, build_pyramid, peak_memory, pyramid_cost
from .common import BATCH, add_pairs, add_reports, add_size, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; either configs or a backbone are given."""
    parser = argparse.ArgumentParser(description="Count parameters, MACs and activations by component")
    parser.add_argument(
        "configs", nargs="*", metavar="CONFIG", help="files, mmdet::NAME, detectron2::NAME, fpn_plugins::HOST/NAME"
    )
    parser.add_argument("--backbone", help="timm network, instead of configs; uses its C2..C5")
    parser.add_argument("--neck", nargs="+", default=[None], help="necks of this package, one report per neck")
    add_pairs(parser, "--neck-args", "arguments of the necks")
    add_pairs(parser, "--backbone-args", "arguments of TimmBackbone")
    add_size(parser, "image size", names=("HEIGHT", "WIDTH"), default=(800, 1344))
    parser.add_argument("--batch-size", type=BATCH, default=1, help="images, with --backbone (default 1)")
    add_pairs(parser, "--options", "overrides of the configs")
    parser.add_argument("--measure", choices=("inference", "training"), help="measure peak memory, with --backbone")
    add_reports(parser, "the counts")
    args = parser.parse_args(argv)
    if bool(args.configs) == bool(args.backbone):
        parser.error("give either configs, or --backbone and optionally --neck")
    _refuse_unused(parser, args)
    return args


def _refuse_unused(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for_pyramids = ("neck", "neck_args", "backbone_args", "batch_size", "measure")
    for name in for_pyramids if args.configs else ("options",):
        if getattr(args, name) != parser.get_default(name):
            wanted = "--backbone" if args.configs else "configs"
            parser.error(f"--{name.replace('_', '-')} has no effect here: give {wanted}")
    if args.neck_args and not args.configs and not any(args.neck):
        parser.error("--neck-args has no effect here: give --neck")


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` pairs; a value that is not a Python literal is a string."""

    def value(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text

    return {key: value(text) for key, _, text in (pair.partition("=") for pair in pairs)}


def count(args: argparse.Namespace) -> tuple[list[CostReport], list[dict[str, Any]]]:
    """Count each network; return the reports and, with ``--measure``, the measurements."""
    size = tuple(args.size)
    if args.configs:
        return [detector_cost(config, size, args.options) for config in args.configs], []
    backbone = {"type": "TimmBackbone", "name": args.backbone, **parse_pairs(args.backbone_args)}
    options = parse_pairs(args.neck_args)
    necks = [None if name is None else {"type": name, **options} for name in args.neck]
    reports = []
    for neck in necks:
        given = [args.backbone, *args.backbone_args, *([f"with {neck['type']}", *args.neck_args] if neck else [])]
        with trying(f"{' '.join(given)} at {size[0]} x {size[1]} pixels", RuntimeError):
            reports.append(pyramid_cost(backbone, neck, size, args.batch_size))
    if not args.measure:
        return reports, []
    measured = [
        peak_memory(build_pyramid, (backbone, neck), size, args.measure, args.batch_size, repeats=3) for neck in necks
    ]
    return reports, measured


def main(argv: Sequence[str] | None = None) -> None:
    """Count, print and write."""
    args = parse_args(argv)
    with user_errors():
        reports, measured = count(args)
        for report in reports:
            print(report.markdown())
        for report, found in zip(reports, measured, strict=False):
            peak = f"peak {found['peak_bytes'] / 2**20:.0f} MiB above the idle network"
            time = f"{found['seconds']:.3f} s on {found['hardware']}"
            print(f"{report.title}: {args.measure} of {args.batch_size} image(s), {peak}, {time}")
        if args.json:
            write_json({"counts": [report.as_dict() for report in reports], "measured": measured}, args.json)
        if args.plot:
            from ..visualization import draw_costs

            draw_costs(reports, args.plot, f"Cost at {args.size[0]} x {args.size[1]}")
