"""Compare time and memory of our necks, other packages' necks of the same kind, and the bare convolutions.

    data=tools/benchmarks/data
    python tools/benchmarks/necks.py --out $data/bench_necks
    python tools/benchmarks/necks.py --slopes --out $data/bench_necks_slopes        growth with the image
    python tools/benchmarks/necks.py --compile --out $data/bench_necks_compiled     through torch.compile

Writes OUT.json, OUT.md and OUT.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import neck_compiled as compiled
import torch
from bench_report import conditions, draw_bars, provenance, write_report
from growth import Sample, add_slopes_argument, curves, draw_growth, growth_table, scaled_sizes
from neck_cases import CASES, OURS, PACKAGES
from neck_passes import (
    FLOOR,
    LAST,
    MODES,
    OUR_FORMS,
    NeckSetting,
    largest_differences,
    prepare,
)
from timing import fresh_process_peaks, interleaved_seconds, median_ratio

from fpn_plugins.commands.common import user_errors
from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
All necks run in turn in one process, on maps of random values. Times are medians; ratios are medians over neighboring
runs, lower is better for ours. Other packages' necks run on NCHW maps, as they are used today. Ours also run on
channels-last maps, as in `PyramidBackbone(channels_last=True)`: unchanged for Detectron2, with the results copied to
NCHW for MMDetection. "convolutions" are those of our neck alone, in order: no norms, activations, upsampling or sums,
and only the projections of BFP's attention. Training is forward and backward, without an optimizer. Memory is the peak
of a pass beyond weights, their gradients, the input maps and the gradients from the heads, in a fresh process: tensors
that PyTorch allocates, and growth of the resident process. These are CPU figures; they say nothing about a GPU."""
SLOPES_METHOD = """\
Each size is measured as in `docs/bench_necks.md`. The exponent is the slope of a straight line through the points on
logarithmic axes: 1 is growth in proportion to the number of pixels; a smaller exponent means that a part of the cost
does not grow."""


def measure(kind: str, setting: NeckSetting, repeats: int, memory: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of one kind of neck."""
    differences = largest_differences(kind, setting)
    for mode in MODES:
        necks = [*OUR_FORMS, *CASES[kind].installed()]
        contenders = [*necks, FLOOR, FLOOR + LAST]
        print(f"{kind}: {mode}, {repeats} rounds of {'; '.join(contenders)}", file=sys.stderr, flush=True)
        seconds = interleaved_seconds({who: prepare(kind, who, mode, setting) for who in contenders}, repeats)
        peaks = {who: fresh_process_peaks(prepare, kind, who, mode, setting) for who in necks if memory}
        yield {
            "neck": kind,
            "mode": mode,
            "largest_relative_difference": differences,
            "seconds": {who: statistics.median(times) for who, times in seconds.items()},
            "time_ratios": {
                ours: {who: median_ratio(seconds[ours], times) for who, times in seconds.items()} for ours in OUR_FORMS
            },
            "peak_bytes": peaks,
        }


def table(row: dict[str, Any]) -> Iterator[str]:
    """Yield lines of the Markdown table, one per timed job."""
    for who, seconds in row["seconds"].items():
        ratios = " | ".join(f"{row['time_ratios'][ours][who]:.2f}" for ours in OUR_FORMS)
        peaks = row["peak_bytes"]
        memory = [
            f"{peaks[who][key] / 2**20:.0f}" if key in peaks.get(who, {}) else "" for key in ("tensors", "resident")
        ]
        share = f"{peaks[OURS]['tensors'] / peaks[who]['tensors']:.2f}" if who in peaks else ""
        columns = [row["neck"], row["mode"], who, f"{1e3 * seconds:.1f}", ratios, memory[0], share, memory[1]]
        yield f"| {' | '.join(columns)} |"


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    differences = {
        f"{row['neck']} and {who}'s": value
        for row in report["rows"]
        for who, value in row["largest_relative_difference"].items()
    }
    lines = [
        "# Necks: time and memory",
        "",
        f"{conditions(report)}, {precision(report)}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        f"| neck | | | ms | {' | '.join(f'{ours} / this' for ours in OUR_FORMS)} | MiB | ours / this | resident MiB |",
        f"|---|---|---|{'--:|' * (4 + len(OUR_FORMS))}",
        *(line for row in report["rows"] for line in table(row)),
        "",
        "Largest difference of the maps with the same weights, relative to the largest value: "
        + ", ".join(f"{pair} {value:.1g}" for pair, value in differences.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def precision(report: dict[str, Any]) -> str:
    """Precision of the report in words."""
    return "bf16 autocast" if report["bf16"] else "fp32"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the time of each relative to our convolutions alone in NCHW layout."""
    figure.set_figheight(6)
    for axis, mode in zip(figure.subplots(len(MODES), 1), MODES, strict=True):
        groups = []
        for row in report["rows"]:
            seconds = row["seconds"]
            others = {who: value / seconds[FLOOR] for who, value in seconds.items() if who != FLOOR}
            groups += [(row["neck"], others)] if row["mode"] == mode else []
        draw_bars(axis, groups)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(title=mode, ylabel=axis_label("time / time of the convolutions (NCHW)", better="lower"))
    legend_below(figure)


def slopes_page(report: dict[str, Any]) -> str:
    """Render the report of ``--slopes`` as Markdown."""
    lines = [
        "# Necks: growth of time and memory with the image",
        "",
        f"{conditions(report)}, {precision(report)}, {report['repeats']} runs.",
        "",
        SLOPES_METHOD,
        "",
        *growth_table(report["curves"], report["sizes"]),
    ]
    return "\n".join(lines) + "\n"


def draw_slopes(report: dict[str, Any], figure: Any) -> None:
    """Draw our necks and the others in their usual form."""
    usual = [curve for curve in report["curves"] if curve["who"] in (OURS, *PACKAGES)]
    draw_growth(usual, report["sizes"], figure)


def samples(rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
    """Yield time and memory of every neck and its convolutions, from rows with their size."""
    for row in rows:
        for who, seconds in row["seconds"].items():
            peak = row["peak_bytes"].get(who, {}).get("tensors")
            yield Sample(row["neck"], row["mode"], who, row["size"], seconds, peak)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--neck", dest="necks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"), help="size of the image"
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    others = parser.add_mutually_exclusive_group()
    add_slopes_argument(others)
    others.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="time the necks eager and through torch.compile instead (default backend: inductor)",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str, Callable[[dict[str, Any], Any], None]]:
    """Measure, and return the report, its page, and the function that draws it."""
    setting = NeckSetting(tuple(args.size), args.batch_size, args.bf16, args.compile)
    packages = [name for name in PACKAGES if any(name in CASES[kind].installed() for kind in args.necks)]
    report = {**provenance(["torch", "fpn_plugins", *packages]), **setting._asdict(), "repeats": args.repeats}
    if args.compile:
        rows = [row for kind in args.necks for row in compiled.measure_compiled(kind, setting, args.repeats)]
        report = {**report, "rows": rows}
        return report, compiled.page(report), compiled.draw
    sizes = [setting.size] if args.slopes is None else scaled_sizes(args)
    rows = [
        {"size": size, **row}
        for kind in args.necks
        for size in sizes
        for row in measure(kind, setting._replace(size=size), args.repeats, not args.no_memory)
    ]
    if args.slopes is None:
        report = {**report, "rows": rows}
        return report, page(report), draw
    report = {**report, "sizes": sizes, "curves": curves(samples(rows))}
    return report, slopes_page(report), draw_slopes


def main() -> None:
    """Measure and write the three files."""
    args = parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        report, text, picture = run(args)
        write_report(args.out, report, text, picture)
        print(text)


if __name__ == "__main__":
    main()
