"""Time whole detectors with the pyramid compiled in place against the same detectors as they are.

    python tools/benchmarks/compiled_detectors.py --out tools/benchmarks/data/compiled_detectors

Writes OUT.json, OUT.md and OUT.png. Detectors that OUT.json has already are kept; ``--again`` measures them again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import conditions, draw_bars, provenance, write_report
from detector_passes import CONFIGS, INFERENCE, MODES, PYRAMID, RETINANET, TOOLBOXES, DetectorSetting, make_pass
from detectors import largest_difference, share_of_equals
from pictures import draw_pictures
from timing import interleaved_seconds, median_ratio
from torch import nn

from fpn_plugins.adapters.hosts import build_detector, host_of
from fpn_plugins.analysis import spread_predictions
from fpn_plugins.commands.common import user_errors
from fpn_plugins.ops.compilation import CompiledInPlace
from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
"eager" and "compiled" run in turn in one process, with the same weights and images, in fp32. Times are medians; the
ratio is the median over neighboring runs, lower is better. Inference is from pixels to objects. Training is forward
pass, losses and backward pass, without an optimizer. Compiled is the pyramid alone (`compile=True`): backbone and neck,
in one module or in two. The rest of the detector is eager. "first pass" is the first call with an empty cache, in which
the graphs for this size are compiled, in training with the backward pass; "from the cache" is the same after another
start, from the files of the first one. "paid back" is the number of images after which the first pass, from an empty
cache, has paid. "graphs" counts those of the forward pass over {sizes} image sizes, for each compiled module: first
those of inference, then those that training adds. These are CPU figures; on a GPU, the gains are larger, see
[compile](guides/compile.md). Other programs ran on the machine: compare the ratios, not the milliseconds."""
R50 = {key: value for key, value in PYRAMID.items() if not key.endswith("channels_last")}
ONE, TWO = ("model.backbone",), ("model.backbone", "model.neck")
# detector -> config's stem; options and compiled parts by toolbox
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "RetinaNet, R50": ("retinanet_r50_fpn_12e", {"mmdet": ({**R50, **RETINANET}, ONE), "detectron2": ({}, ONE)}),
    "Mask R-CNN, R50": ("mask_rcnn_r50_fpn_12e", {"mmdet": (R50, ONE), "detectron2": ({}, ONE)}),
    "Mask R-CNN, Swin-T": ("mask_rcnn_swin_t_fpn_12e", {"mmdet": ({}, TWO), "detectron2": ({}, ONE)}),
    "RetinaNet, ViT-S": ("retinanet_dinov2_reg_s_vitdet_100e", {"mmdet": ({}, TWO), "detectron2": ({}, ONE)}),
}
COLUMNS = ("toolbox", "detector", "", "eager, ms", "compiled, ms", "compiled / eager", "first pass, s")
COLUMNS += ("from the cache, s", "images until paid back", "graphs")
EAGER, COMPILED = "eager", "compiled"
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
    graphs = count_graphs(toolbox, detector)
    start_compiler()
    for mode in modes:
        passes, first = {EAGER: make_pass(eager, toolbox, mode, setting)}, []
        for _ in range(2):  # with an empty cache, then from it
            torch.compiler.reset()
            model = build(toolbox, detector, {})
            model.load_state_dict(eager.state_dict())
            passes[COMPILED] = make_pass(model, toolbox, mode, setting)
            start = time.perf_counter()
            found = passes[COMPILED]()
            first.append(time.perf_counter() - start)
            print(f"{toolbox} {detector}: {mode}, first pass {first[-1]:.1f} s", file=sys.stderr, flush=True)
        compared = compare_forms(mode, passes[EAGER](), found)
        seconds = interleaved_seconds(passes, repeats)
        yield {
            "toolbox": toolbox,
            "detector": detector,
            "mode": mode,
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


def count_graphs(toolbox: str, detector: str) -> dict[str, list[int]]:
    """Count the graphs of each compiled module over `SIZES`, for inference, then for training.

    The backend runs what was recorded as it is; `fullgraph` fails at a graph break.
    """
    torch.compiler.reset()
    model: Any = build(toolbox, detector, {"backend": "eager", "fullgraph": True})
    parts = compiled_parts(model)
    counts, before = {}, [0] * len(parts)
    for mode in MODES:
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


def paid_back(row: dict[str, Any], batch: int) -> float:
    """Number of images after which the first pass has paid; infinite if compiling does not pay."""
    gain = row["seconds"][EAGER] * (1 - row["ratio"]) / batch
    cost = row["first_pass_seconds"][0] - row["seconds"][EAGER]
    return cost / gain if gain > 0 else float("inf")


def table(row: dict[str, Any], batch: int) -> str:
    """Make the line of the Markdown table."""
    images = paid_back(row, batch)
    columns = [row["toolbox"], row["detector"], row["mode"]]
    columns += [f"{1e3 * row['seconds'][who]:.0f}" for who in (EAGER, COMPILED)]
    columns += [f"{row['ratio']:.2f}", *(f"{seconds:.0f}" for seconds in row["first_pass_seconds"])]
    columns += [f"{images:.0f}" if images < float("inf") else "never", " + ".join(map(str, row["graphs"]))]
    return f"| {' | '.join(columns)} |"


def difference(row: dict[str, Any]) -> str:
    """Say how far the compiled detector is from the eager one."""
    name = f"- {row['toolbox']} {row['detector']}, {row['mode']}: "
    if row["mode"] == INFERENCE:
        return name + f"{row['objects']} objects, {row['equal_objects']:.1%} equal within 0.01 px and 1e-4 of score."
    return name + f"largest relative difference of a loss {row['largest_relative_difference']:.1g}."


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Detectors with the pyramid compiled in place",
        "",
        f"{conditions(report)}, {report['repeats']} runs.",
        "",
        METHOD.format(sizes=len(SIZES)),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * 3}{'--:|' * 7}",
        *(table(row, report["batch"]) for row in report["rows"]),
        "",
        *map(difference, report["rows"]),
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the time of each compiled detector relative to the eager one."""
    for axis, toolbox in zip(figure.subplots(1, len(TOOLBOXES), sharey=True), TOOLBOXES, strict=True):
        groups: dict[str, dict[str, float]] = {}
        for row in report["rows"]:
            if row["toolbox"] == toolbox:
                groups.setdefault(row["detector"].replace(", ", "\n"), {})[row["mode"]] = row["ratio"]
        draw_bars(axis, list(groups.items()))
        axis.set(title=toolbox, ylabel=axis_label("compiled time / eager time", better="lower"))
    legend_below(figure)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the detectors that the command line names and that have no result yet."""
    setting = DetectorSetting(tuple(args.size), args.batch_size)
    path = args.out.with_suffix(".json")
    rows = [] if args.again or not path.is_file() else json.loads(path.read_text(encoding="utf-8"))["rows"]
    packages = ["torch", "fpn_plugins", "timm", "mmdet", "mmcv", "detectron2"]
    report = {**provenance(packages), **setting._asdict(), "repeats": args.repeats, "rows": rows}
    for toolbox in args.toolboxes:
        for detector in args.detectors:
            done = [row["mode"] for row in rows if (row["toolbox"], row["detector"]) == (toolbox, detector)]
            modes = [mode for mode in MODES if mode not in done]
            with tempfile.TemporaryDirectory() as folder:
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
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), metavar=("HEIGHT", "WIDTH"), help="of images")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--again", action="store_true", help="measure again what OUT.json has")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        print(page(run(args)))


if __name__ == "__main__":
    main()
