"""Compare time and memory of whole detectors, the toolboxes' own and the same with our neck.

    data=tools/benchmarks/data
    python tools/benchmarks/detectors.py --out $data/bench_detectors
    python tools/benchmarks/detectors.py --size 800 1344 --out $data/bench_detectors_800

Writes OUT.json, OUT.md and OUT.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_report import conditions, draw_bars, provenance, write_report
from detector_passes import (
    DETECTORS,
    FORMS,
    INFERENCE,
    MODES,
    STOCK,
    TOOLBOXES,
    DetectorSetting,
    Subject,
    autocast_dtype,
    build,
    draw_weights,
    make_pass,
    prepare,
    usual_forms,
)
from timing import fresh_process_peaks, interleaved_seconds, median_ratio

from fpn_plugins.analysis import agreement
from fpn_plugins.commands.common import user_errors
from fpn_plugins.inference import Detections
from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
All forms of a detector run in turn in one process, with the same weights and images. Times are medians; ratios are
medians over neighboring runs, relative to the toolbox's own detector, lower is better for the row. Inference is from
pixels to objects. Training is forward pass, losses and backward pass, without an optimizer; samplers draw the same
numbers in every pass. "stock" is the toolbox's own config of a ResNet-50 with FPN, in fp32 on NCHW maps; "ours" is this
package's config, which differs only in the neck. "channels_last" is `PyramidBackbone(channels_last=True)`: around
Detectron2's own ResNet, and in MMDetection around timm's ResNet-50 with the weights of mmdet's. "bf16" is the whole
detector under autocast to bfloat16; in MMDetection, stock or not, inputs of RoIAlign and outputs of the heads are cast
to fp32, because mmcv's CPU kernels do not support bfloat16. Weights are random, with predictors scaled so that there
are as many objects as the configs allow. Memory is the peak of a pass beyond weights and their gradients, in a fresh
process: tensors that PyTorch allocates, and growth of the resident process. These are CPU figures; they say nothing
about a GPU."""


def measure(
    subject: Subject, forms: Sequence[str], setting: DetectorSetting, repeats: int, memory: bool
) -> Iterator[Any]:
    """Yield the rows of one detector of one toolbox."""
    models = {who: build(subject, FORMS[who]) for who in forms}
    for mode in MODES:
        print(f"{subject.toolbox} {subject.detector}: {mode}, {repeats} rounds of {'; '.join(forms)}", file=sys.stderr)
        passes = {who: make_pass(models[who], subject.toolbox, mode, setting, autocast_dtype(who)) for who in forms}
        compared = compare(mode, {who: run() for who, run in passes.items()})  # the warm-up
        seconds = interleaved_seconds(passes, repeats, warm_up=0)
        yield {
            "toolbox": subject.toolbox,
            "detector": subject.detector,
            "mode": mode,
            "seconds": {who: statistics.median(times) for who, times in seconds.items()},
            "time_ratios": {who: median_ratio(times, seconds[STOCK]) for who, times in seconds.items()},
            "peak_bytes": {who: fresh_process_peaks(prepare, subject, who, mode, setting) for who in forms if memory},
            **compared,
        }


def compare(mode: str, results: dict[str, Any]) -> dict[str, Any]:
    """Count objects, and compare the results of each form with those of the toolbox's own detector."""
    if mode == INFERENCE:
        exact = [who for who in results if not FORMS[who].bf16]
        return {
            "objects": {who: sum(len(image.scores) for image in found) for who, found in results.items()},
            "equal_objects": {who: share_of_equals(results[STOCK], results[who]) for who in exact},
        }
    largest = {who: largest_difference(results[STOCK], named) for who, named in results.items()}
    return {"losses": results, "largest_relative_difference": largest}


def largest_difference(wanted: dict[str, float], got: dict[str, float]) -> float:
    """Largest difference of losses by name, relative to the wanted one; absolute if that is zero."""
    return max(abs(got[name] - value) / (abs(value) or 1) for name, value in wanted.items())


def share_of_equals(first: list[Detections], second: list[Detections]) -> float:
    """Share of objects that both find, within 0.01 pixels and a score difference of 1e-4."""
    return agreement((index, one, other) for index, (one, other) in enumerate(zip(first, second, strict=True))).share


def table(row: dict[str, Any]) -> Iterator[str]:
    """Yield lines of the Markdown table, one per form."""
    for who, seconds in row["seconds"].items():
        columns = [row["toolbox"], row["detector"], row["mode"], who]
        columns += [f"{1e3 * seconds:.0f}", f"{row['time_ratios'][who]:.2f}"]
        for key in ("tensors", "resident"):
            bytes_ = {name: peaks[key] for name, peaks in row["peak_bytes"].items() if key in peaks}
            columns += [f"{bytes_[who] / 2**20:.0f}", f"{bytes_[who] / bytes_[STOCK]:.2f}"] if bytes_ else ["", ""]
        yield f"| {' | '.join(columns)} |"


def differences(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield sentences with the number of objects and the differences from stock."""
    for row in rows:
        name = f"{row['toolbox']} {row['detector']}"
        if row["mode"] == INFERENCE:
            shares = "; ".join(f"{who} {share:.1%}" for who, share in row["equal_objects"].items() if who != STOCK)
            yield f"- {name}, {row['objects'][STOCK]} objects; equal within 0.01 px and 1e-4 of score: {shares}."
        else:
            largest = "; ".join(f"{w} {x:.1g}" for w, x in row["largest_relative_difference"].items() if w != STOCK)
            yield f"- {name}, largest relative difference of a loss from stock: {largest}."


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Detectors: time and memory",
        "",
        f"{conditions(report)}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        "| toolbox | detector | | | ms | this / stock | MiB | this / stock | resident MiB | this / stock |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|",
        *(line for row in report["rows"] for line in table(row)),
        "",
        *differences(report["rows"]),
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw time and, if measured, memory of each form relative to the toolbox's own detector."""
    kinds = ["time", "memory"] if all(row["peak_bytes"] for row in report["rows"]) else ["time"]
    figure.set_figheight(0.6 + 2.4 * len(kinds))
    for line, kind in zip(figure.subplots(len(kinds), 2, sharey="row", squeeze=False), kinds, strict=True):
        for axis, mode in zip(line, MODES, strict=True):
            rows = [row for row in report["rows"] if row["mode"] == mode]
            draw_bars(axis, [(f"{row['toolbox']}\n{row['detector']}", ratios(row, kind)) for row in rows])
            axis.set(title=mode, ylabel=axis_label(f"{kind} / stock's", better="lower"))
    legend_below(figure)


def ratios(row: dict[str, Any], kind: str) -> dict[str, float]:
    """Time or peak of tensors of each form relative to stock."""
    if kind == "time":
        return {who: ratio for who, ratio in row["time_ratios"].items() if who != STOCK}
    tensors = {who: peaks["tensors"] for who, peaks in row["peak_bytes"].items()}
    return {who: peak / tensors[STOCK] for who, peak in tensors.items() if who != STOCK}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the detectors that the command line names."""
    forms = [name for name in FORMS if name in (STOCK, *args.forms)]
    setting = DetectorSetting(tuple(args.size), args.batch_size)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for toolbox in args.toolboxes:
            for detector in args.detectors:
                subject = draw_weights(toolbox, detector, Path(folder), setting)
                rows += measure(subject, forms, setting, args.repeats, not args.no_memory)
    packages = ["torch", "fpn_plugins", "timm", "torchvision", *args.toolboxes]
    packages += ["mmcv"] if "mmdet" in args.toolboxes else []
    return {**provenance(packages), **setting._asdict(), "repeats": args.repeats, "rows": rows}


def main() -> None:
    """Measure and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--toolbox", dest="toolboxes", nargs="+", choices=TOOLBOXES, default=TOOLBOXES)
    parser.add_argument("--detector", dest="detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument(
        "--form",
        dest="forms",
        nargs="+",
        choices=list(FORMS),
        default=usual_forms(),
        help="forms to compare with stock (default: all; bf16 only if the processor has instructions for it)",
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"), help="size of the images"
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-memory", action="store_true", help="times only")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        report = run(args)
        write_report(args.out, report, page(report), draw)
        print(page(report))


if __name__ == "__main__":
    main()
