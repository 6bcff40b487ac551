"""Time whole detectors with the pyramid compiled in place against the same detectors as they are.

    python tools/benchmarks/compiled_detectors.py --out tools/benchmarks/data/compiled_detectors

Writes OUT.json, OUT.md and OUT.png. Detectors that OUT.json has already are kept; ``--again`` measures
those again that the command line names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from bench_report import provenance, write_report
from compiled_detectors_page import COMPILED, EAGER, draw, page
from detector_passes import (
    CONFIGS,
    INFERENCE,
    MODES,
    PYRAMID,
    RETINANET,
    TOOLBOXES,
    TRAINING,
    DetectorSetting,
    make_pass,
)
from detectors import largest_difference, share_of_equals
from pictures import draw_pictures
from timing import choose_clock, interleaved_seconds, median_ratio
from torch import nn

from fpn_plugins.adapters.hosts import build_detector, host_of
from fpn_plugins.analysis import spread_predictions
from fpn_plugins.commands.common import user_errors
from fpn_plugins.ops.compilation import CompiledInPlace

R50 = {key: value for key, value in PYRAMID.items() if not key.endswith("channels_last")}
ONE, TWO = ("model.backbone",), ("model.backbone", "model.neck")
# detector -> config's stem; options and compiled parts by toolbox
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "RetinaNet, R50": ("retinanet_r50_fpn_12e", {"mmdet": ({**R50, **RETINANET}, ONE), "detectron2": ({}, ONE)}),
    "Mask R-CNN, R50": ("mask_rcnn_r50_fpn_12e", {"mmdet": (R50, ONE), "detectron2": ({}, ONE)}),
    "Mask R-CNN, Swin-T": ("mask_rcnn_swin_t_fpn_12e", {"mmdet": ({}, TWO), "detectron2": ({}, ONE)}),
    "RetinaNet, ViT-S": ("retinanet_dinov2_reg_s_vitdet_100e", {"mmdet": ({}, ONE), "detectron2": ({}, ONE)}),
}
# as in a COCO epoch, at a quarter of the usual sides, padded to multiples of 32
SIZES = ((192, 256), (256, 192), (192, 288), (288, 192), (192, 192), (192, 320), (320, 192), (224, 256), (256, 224))
SIZES += ((160, 320), (192, 352), (224, 288))


def build(toolbox: str, detector: str, compiled: Any = None) -> nn.Module:
    """Build a detector, with the pyramid compiled by these options of ``torch.compile`` unless they are ``None``."""
    stem, by_toolbox = DETECTORS[detector]
    options, parts = by_toolbox[toolbox]
    options = [f"{key}={value}" for key, value in options.items()]
    model = build_detector(str(CONFIGS / toolbox / f"{stem}.py"), options)
    if compiled is not None:
        for part in parts:
            getattr(model, part.rpartition(".")[2]).compile(**compiled)
    return model


def compiled_parts(model: nn.Module) -> list[Any]:
    """List the modules inside a detector that are compiled in place."""
    return [m for m in model.modules() if isinstance(m, CompiledInPlace) and m.compile_options is not None]


def start_compiler() -> None:
    """Compile something small, so that no first pass pays for the start of the compiler."""
    torch.compile(torch.relu)(torch.ones(1))


def measure(
    toolbox: str, detector: str, modes: Sequence[str], setting: DetectorSetting, repeats: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one detector."""
    torch.manual_seed(0)
    eager = build(toolbox, detector).eval()
    host = host_of(str(CONFIGS / toolbox / f"{DETECTORS[detector][0]}.py"))
    with torch.no_grad():
        spread_predictions(eager, partial(host.detect, eager, draw_pictures(1, setting.size)))
    graphs = count_graphs(toolbox, detector, modes)
    start_compiler()
    kind, clock = choose_clock()
    for mode in modes:
        passes, first = {EAGER: make_pass(eager, toolbox, mode, setting)}, []
        for _ in range(2):  # with an empty cache, then from it
            torch.compiler.reset()
            model = build(toolbox, detector, {})
            model.load_state_dict(eager.state_dict())
            passes[COMPILED] = make_pass(model, toolbox, mode, setting)
            start = clock()
            found = passes[COMPILED]()
            first.append(clock() - start)
            print(f"{toolbox} {detector}: {mode}, first pass {first[-1]:.1f} s", file=sys.stderr, flush=True)
        compared = compare_forms(mode, passes[EAGER](), found)
        seconds = interleaved_seconds(passes, repeats, clock=clock)
        yield {
            "toolbox": toolbox,
            "detector": detector,
            "mode": mode,
            "clock": kind,
            "seconds": {who: statistics.median(times) for who, times in seconds.items()},
            "ratio": median_ratio(seconds[COMPILED], seconds[EAGER]),
            "first_pass_seconds": first,
            "graphs": graphs[mode],
            **compared,
        }


def compare_forms(mode: str, eager: Any, compiled: Any) -> dict[str, Any]:
    """Compare what the compiled detector finds, or its losses, with the eager one's."""
    if mode == INFERENCE:
        objects = sum(len(image.scores) for image in eager)
        return {"objects": objects, "equal_objects": share_of_equals(eager, compiled)}
    return {"largest_relative_difference": largest_difference(eager, compiled)}


def count_graphs(toolbox: str, detector: str, modes: Sequence[str] = MODES) -> dict[str, list[int]]:
    """Count the graphs of each compiled module over `SIZES`, for inference, then, if it is among the modes, training.

    The backend runs what was recorded as it is; `fullgraph` fails at a graph break.
    """
    torch.compiler.reset()
    model: Any = build(toolbox, detector, {"backend": "eager", "fullgraph": True})
    parts = compiled_parts(model)
    counts, before = {}, [0] * len(parts)
    for mode in MODES if TRAINING in modes else (INFERENCE,):
        model.train(mode != INFERENCE)
        with torch.set_grad_enabled(mode != INFERENCE):
            for size in SIZES:
                maps = model.backbone(torch.rand(1, 3, *size))
                if getattr(model, "neck", None) is not None:
                    model.neck(maps)
        graphs = [part._compiled_call_impl.graphs for part in parts]
        counts[mode] = [after - earlier for after, earlier in zip(graphs, before, strict=True)]
        before = graphs
    return counts


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the detectors that the command line names and that have no result yet."""
    setting = DetectorSetting(tuple(args.size), args.batch_size)
    path = args.out.with_suffix(".json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    if args.again:
        named = {"toolbox": args.toolboxes, "detector": args.detectors, "mode": args.modes}
        rows = [row for row in rows if any(row[key] not in values for key, values in named.items())]
    packages = ["torch", "fpn_plugins", "timm", "mmdet", "mmcv", "detectron2"]
    report = {**provenance(packages), **setting._asdict(), "repeats": args.repeats, "rows": rows}
    # rows are of several commands
    report["command"] = f"tools/benchmarks/compiled_detectors.py --repeats {args.repeats}"
    for toolbox in args.toolboxes:
        for detector in args.detectors:
            done = [row["mode"] for row in rows if (row["toolbox"], row["detector"]) == (toolbox, detector)]
            modes = [mode for mode in args.modes if mode not in done]
            # compilers in this process, whose processor time includes theirs
            workers = torch._inductor.config.patch(compile_threads=args.threads)
            with workers, tempfile.TemporaryDirectory() as folder:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
                for row in measure(toolbox, detector, modes, setting, args.repeats) if modes else ():
                    rows.append(row)
                    write_report(args.out, report, page(report), draw)
    return report


def main() -> None:
    """Measure and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="path of the report, without suffix")
    parser.add_argument(
        "--toolbox", nargs="+", choices=TOOLBOXES, default=list(TOOLBOXES), dest="toolboxes", help="toolboxes"
    )
    parser.add_argument(
        "--detector", nargs="+", choices=list(DETECTORS), default=list(DETECTORS), dest="detectors", help="detectors"
    )
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES), dest="modes", help="modes")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), metavar=("HEIGHT", "WIDTH"), help="of images")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--again", action="store_true", help="measure again what OUT.json has of them")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        print(page(run(args)))


if __name__ == "__main__":
    main()
