"""Compare time and memory of a backbone of ours with the toolboxes' own: same weights, interleaved runs.

    python tools/benchmarks/backbones.py --model swin_t --size 512 512 --out work_dirs/swin_t
    python tools/benchmarks/backbones.py --model swin_t --slopes --out work_dirs/swin_t_slopes     growth with the image

Writes OUT.json, OUT.md and, with --slopes, OUT.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench_models import (
    BACKBONE_CASES,
    BACKBONE_NAMES,
    OURS,
    build_ours,
    build_peer,
    make_inputs,
    peer_differences,
    prepare_pass,
)
from bench_report import conditions, provenance, write_report
from growth import Sample, add_slopes_argument, curves, draw_growth, growth_table, scaled_sizes
from timing import fresh_process_peaks, interleaved_seconds, median_ratio
from torch import nn

import fpn_plugins
from fpn_plugins.commands.common import user_errors

METHOD = """\
All implementations run in turn in one process with the same weights. Times are medians over whole passes; ratios are
medians over neighboring runs, lower is better for ours. Training is forward and backward, without an optimizer. Memory
is the peak allocation of a pass beyond weights and their gradients, counted at PyTorch's allocator in a fresh
process."""

MODES = ("inference", "training")


def build(model: str, who: str, size: tuple[int, int]) -> nn.Module:
    """Build one implementation, with weights of a fixed seed."""
    return build_ours(model, fpn_plugins, size) if who == OURS else build_peer(model, who, size)


def prepare(model: str, who: str, mode: str, size: tuple[int, int], batch: int) -> Callable[[], object]:
    """Make one pass of one implementation, in a process of its own."""
    return prepare_pass(build(model, who, size), make_inputs(model, size, batch), mode == "training")


def compare(model: str, size: tuple[int, int], batch: int, repeats: int, memory: bool) -> dict[str, Any]:
    """Measure one model at one size."""
    nets = {who: build(model, who, size) for who in BACKBONE_CASES[model]}
    images = make_inputs(model, size, batch)
    result: dict[str, Any] = {"model": model, **origin(model), "batch": batch, "size": size, "repeats": repeats}
    result["largest_relative_difference"] = peer_differences(nets, images)
    for mode in MODES:
        print(f"{model}: {mode}, {repeats} rounds of {', '.join(nets)}", file=sys.stderr, flush=True)
        jobs = {who: prepare_pass(net, images, mode == "training") for who, net in nets.items()}
        seconds = interleaved_seconds(jobs, repeats)
        result[mode] = {
            who: {"seconds": statistics.median(runs), "time_ratio": median_ratio(seconds[OURS], runs)}
            for who, runs in seconds.items()
        }
    for mode in MODES if memory else ():
        print(f"{model}: memory of {mode}", file=sys.stderr, flush=True)
        for who in nets:
            result[mode][who] |= fresh_process_peaks(prepare, model, who, mode, size, batch)
        for row in result[mode].values():
            row["memory_ratio"] = result[mode][OURS]["tensors"] / row["tensors"]
    return result


def origin(model: str) -> dict[str, Any]:
    """Provenance with the versions of all implementations."""
    return provenance(["torch", "fpn_plugins", *(who for who in BACKBONE_CASES[model] if who != OURS)])


def table(result: dict[str, Any]) -> str:
    """Render the figures as Markdown; ratios are ours over the row's."""
    lines = [
        f"# {result['model']}: time and memory",
        "",
        f"{conditions(result)}, fp32, {result['repeats']} runs.",
        "",
        METHOD,
        "",
        "| | | seconds | ours / this | peak MiB | ours / this |",
        "|---|---|---|---|---|---|",
    ]
    for mode in MODES:
        for who, row in result[mode].items():
            peak = f"{row['tensors'] / 2**20:.0f} | {row['memory_ratio']:.2f}" if "tensors" in row else " | "
            lines.append(f"| {mode} | {who} | {row['seconds']:.3f} | {row['time_ratio']:.2f} | {peak} |")
    differences = (f"{who}'s {value:.1g}" for who, value in result["largest_relative_difference"].items())
    lines += ["", f"Largest difference of maps, relative to the largest value: {', '.join(differences)}."]
    return "\n".join(lines) + "\n"


def samples(results: list[dict[str, Any]]) -> Iterator[Sample]:
    """Yield time and memory of every implementation at several sizes."""
    for result in results:
        for mode in MODES:
            for who, row in result[mode].items():
                yield Sample(result["model"], mode, who, tuple(result["size"]), row["seconds"], row.get("tensors"))


def slopes_page(report: dict[str, Any]) -> str:
    """Render the growth of time and memory as Markdown."""
    lines = [
        f"# {report['model']}: growth of time and memory with the image",
        "",
        f"{conditions(report)}, fp32, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        *growth_table(report["curves"], report["sizes"]),
    ]
    return "\n".join(lines) + "\n"


def draw_slopes(report: dict[str, Any], figure: Any) -> None:
    """Draw the growth of every implementation."""
    draw_growth(report["curves"], report["sizes"], figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=BACKBONE_NAMES, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--out", type=Path, help="output path without suffix")
    add_slopes_argument(parser)
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        sizes = [tuple(args.size)] if args.slopes is None else scaled_sizes(args)
        results = [compare(args.model, size, args.batch_size, args.repeats, not args.no_memory) for size in sizes]
        report, text, draw = results[0], table(results[0]), None
        if args.slopes is not None:
            shared = {"model": args.model, "batch": args.batch_size, "repeats": args.repeats, **origin(args.model)}
            report = {**shared, "sizes": sizes, "curves": curves(samples(results))}
            text, draw = slopes_page(report), draw_slopes
        print(text)
        if args.out:
            write_report(args.out, report, text, draw)


if __name__ == "__main__":
    main()
