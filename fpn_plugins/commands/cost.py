"""Count parameters, MACs and activations by component, without weights and data.

    python tools/analyze_cost.py --backbone resnet50 --neck FPN PAFPN --size 800 1344
    python tools/analyze_cost.py configs/mmdet/mask_rcnn_r50_fpn_12e.py configs/detectron2/mask_rcnn_r50_fpn_12e.py
    python tools/analyze_cost.py detectron2::COCO-Detection/faster_rcnn_R_50_C4_1x.yaml --png cost.png --json cost.json

Prints Markdown; ``--json`` and ``--png`` write files. ``--measure`` adds the measured peak memory and time of backbone
and neck, each in a fresh process, on the GPU where there is one.
"""

from __future__ import annotations

import argparse
import ast
import json
from typing import Any

from .common import user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Count parameters, MACs and activations by component")
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="config files of mmdet or Detectron2, mmdet::NAME, detectron2::NAME",
    )
    parser.add_argument("--backbone", help="a timm network, for its C2..C5, instead of configs")
    parser.add_argument("--neck", nargs="+", default=[None], help="necks of this package, one row each")
    parser.add_argument("--neck-args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of the necks")
    parser.add_argument("--backbone-args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of TimmBackbone")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--batch-size", type=int, default=1, help="images, with --backbone (default 1)")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the configs")
    parser.add_argument("--json", help="write the counts to this file")
    parser.add_argument("--png", help="draw them as stacked bars into this file")
    parser.add_argument("--measure", choices=("inference", "training"), help="measure peak memory too, with --backbone")
    args = parser.parse_args(argv)
    if bool(args.configs) == bool(args.backbone):
        parser.error("give either configs, or --backbone and perhaps --neck")
    _refuse_unused(parser, args)
    return args


def _refuse_unused(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    of_pyramids = ("neck", "neck_args", "backbone_args", "batch_size", "measure")
    for name in of_pyramids if args.configs else ("options",):
        if getattr(args, name) != parser.get_default(name):
            wanted = "--backbone" if args.configs else "configs"
            parser.error(f"--{name.replace('_', '-')} is of no use here: give {wanted}")
    if args.neck_args and not args.configs and not any(args.neck):
        parser.error("--neck-args is of no use here: give --neck")


def arguments(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs; values are Python literals, or strings where they are none."""

    def value(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    split = [pair.partition("=") for pair in pairs]
    wrong = [pair for pair, (_, equals, _) in zip(pairs, split, strict=True) if not equals]
    if wrong:
        raise ValueError(f"{wrong} must be KEY=VALUE")
    return {key: value(text) for key, _, text in split}


def count(args: argparse.Namespace) -> tuple[list[Any], list[dict[str, Any]]]:
    """The reports, and the measurements of those that were measured."""
    from ..adapters.hosts import detector_cost
    from ..analysis import build_pyramid, peak_memory, pyramid_cost

    size = tuple(args.size)
    if args.configs:
        return [detector_cost(config, size, args.options) for config in args.configs], []
    backbone = {"type": "TimmBackbone", "name": args.backbone, **arguments(args.backbone_args)}
    options = arguments(args.neck_args)
    necks = [None if name is None else {"type": name, **options} for name in args.neck]
    reports = [pyramid_cost(backbone, neck, size, args.batch_size) for neck in necks]
    if not args.measure:
        return reports, []
    measured = [
        peak_memory(build_pyramid, (backbone, neck), size, args.measure, args.batch_size, repeats=3) for neck in necks
    ]
    return reports, measured


def measurement(title: str, found: dict[str, Any], args: argparse.Namespace) -> str:
    """One line on a measured network."""
    peak, seconds = found["peak_bytes"] / 2**20, found["seconds"]
    what = f"{args.measure} of {args.batch_size} image(s)"
    return f"{title}: {what}, peak {peak:.0f} MiB above the idle network, {seconds:.3f} s on {found['hardware']}"


def main() -> None:
    """Count, print and write."""
    args = parse_args()
    with user_errors():
        from ..files import write_atomically
        from ..visualization import draw_costs

        reports, measured = count(args)
        for report in reports:
            print(report.markdown())
        for report, found in zip(reports, measured, strict=False):
            print(measurement(report.title, found, args))
        if args.json:
            content = {"counts": [report.as_dict() for report in reports], "measured": measured}
            with write_atomically(args.json) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if args.png:
            draw_costs(reports, args.png, f"Cost at {args.size[0]} x {args.size[1]}")
