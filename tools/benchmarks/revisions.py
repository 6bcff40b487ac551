"""Compare time and memory of the working tree's models with an older revision's and the toolboxes' own.

    python tools/benchmarks/revisions.py --before HEAD~20 --out tools/benchmarks/data/plain_models
    python tools/benchmarks/revisions.py --before v0.1.0 --model swin_t fpn --repeats 15 --out work_dirs/swin_t

All run in turn in one process. Writes OUT.json, OUT.md and OUT.png after each model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_models import (
    BACKBONE_NAMES,
    NAMES,
    build_ours,
    build_peer,
    largest_difference,
    make_inputs,
    maps_of,
    peers_of,
    perturb,
    prepare_pass,
    weights_of,
)
from bench_report import draw_bars, measured, provenance, write_report
from neck_cases import PACKAGES
from revision_package import PACKAGE, ROOT, commit_of, extract, has_uncommitted_changes, import_before
from timing import fresh_process_peaks, interleaved_seconds, median_ratio
from torch import nn

import fpn_plugins
from fpn_plugins.commands.common import user_errors
from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
All run in turn in one process on the same inputs, in fp32. Times are medians over whole passes; ratios are medians over
neighboring runs. "After" is the working tree, "before" the older revision, "this" the row's implementation. Training is
forward and backward, without an optimizer. Memory is the peak allocation of a pass beyond weights and their gradients,
counted at PyTorch's allocator in a fresh process."""

say = partial(print, file=sys.stderr, flush=True)
BEFORE, AFTER = "before", "after"
MODES = ("inference", "training")
UNIT = 32  # sides that every peer takes are multiples of this


class Plan(NamedTuple):
    """Settings of all measurements; `folder` holds the older package."""

    folder: str
    size: tuple[int, int]
    batch: int
    threads: Sequence[int]
    repeats: int
    memory: bool
    tiny: bool


def build(plan: Plan, name: str, who: str) -> nn.Module:
    """Build one implementation of a model."""
    if who in (BEFORE, AFTER):
        package = fpn_plugins if who == AFTER else import_before(Path(plan.folder))
        return build_ours(name, package, plan.size, plan.tiny)
    return build_peer(name, who, plan.size, plan.tiny)


def prepare(plan: Plan, name: str, who: str, mode: str) -> Callable[[], object]:
    """Make one pass of one implementation, in a process of its own."""
    return prepare_pass(build(plan, name, who), make_inputs(name, plan.size, plan.batch), mode == "training")


def differences(nets: Mapping[str, nn.Module], inputs: Any) -> dict[str, float]:
    """Largest relative difference of the maps of `AFTER` from each other implementation's, with the same weights.

    Leaves the last peer's weights in both of ours.
    """
    found = {}
    peers = [who for who in nets if who not in (BEFORE, AFTER)]
    for source in peers or [AFTER]:
        weights = weights_of(perturb(nets[source]))
        group = {who: nets[who] for who in dict.fromkeys((AFTER, BEFORE, source))}
        for who, net in group.items():
            net.eval()  # mmdet's returns None
            if who != source:
                net.load_state_dict(weights)
        with torch.no_grad():
            maps = {who: maps_of(net, inputs) for who, net in group.items()}
        for who in group:
            if who != AFTER:
                found[who] = largest_difference(maps[AFTER], maps[who])
    return found


def time_rows(nets: Mapping[str, nn.Module], inputs: Any, mode: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Measure the median seconds of each implementation, and the ratios of both of ours to it."""
    jobs = {who: prepare_pass(net, inputs, mode == "training") for who, net in nets.items()}
    seconds = interleaved_seconds(jobs, repeats)
    return {
        who: {
            "seconds": statistics.median(runs),
            "after_ratio": median_ratio(seconds[AFTER], runs),
            "before_ratio": median_ratio(seconds[BEFORE], runs),
        }
        for who, runs in seconds.items()
    }


def add_memory(rows: dict[str, dict[str, Any]], plan: Plan, name: str, mode: str) -> None:
    """Add peak bytes of each implementation, and the ratio of `AFTER` to it."""
    for who, row in rows.items():
        row |= fresh_process_peaks(prepare, plan, name, who, mode)
    for row in rows.values():
        row["memory_ratio"] = rows[AFTER]["tensors"] / row["tensors"]


def measure(plan: Plan, name: str, nets: Mapping[str, nn.Module], inputs: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of one model."""
    for threads in plan.threads:
        torch.set_num_threads(threads)
        for mode in MODES:
            say(f"{name}: {mode}, threads: {threads}, {plan.repeats} rounds of {', '.join(nets)}")
            rows = time_rows(nets, inputs, mode, plan.repeats)
            if plan.memory:
                say(f"{name}: {mode}, threads: {threads}, memory")
                add_memory(rows, plan, name, mode)
            for who, row in rows.items():
                yield {"model": name, "threads": threads, "mode": mode, "who": who, **row}


def table(report: dict[str, Any]) -> str:
    """Render the figures as Markdown."""
    commits = report["commits"]
    changes = " with uncommitted changes" if report["uncommitted"] else ""
    threads = {"threads": " and ".join(map(str, report["threads"]))}
    lines = [
        "# Models before and after",
        "",
        f"{measured({**report, **threads})}: before {commits[BEFORE]}, after {commits[AFTER]}{changes}; images of "
        f"{' x '.join(map(str, report['size']))} pixels, batch {report['batch']}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        "| model | mode | threads | this | ms | after / this | before / this | MiB | after / this |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
        *map(table_row, report["rows"]),
        "",
        "Largest difference between maps of after and this with the same weights, relative to the largest value:",
        "",
    ]
    for name, found in report["largest_relative_difference"].items():
        lines.append(f"- {name}: " + ", ".join(f"{who} {value:.1g}" for who, value in found.items()))
    return "\n".join(lines) + "\n"


def table_row(row: dict[str, Any]) -> str:
    """Line of the Markdown table."""
    times = f"{1e3 * row['seconds']:.1f} | {row['after_ratio']:.2f} | {row['before_ratio']:.2f}"
    memory = f"{row['tensors'] / 2**20:.1f} | {row['memory_ratio']:.2f}" if "tensors" in row else " | "
    return f"| {row['model']} | {row['mode']} | {row['threads']} | {row['who']} | {times} | {memory} |"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the ratios of after to the others: a row of panels per mode, times by number of threads, then memory."""
    columns = [("time", threads, "after_ratio") for threads in report["threads"]]
    if "tensors" in report["rows"][0]:
        columns.append(("memory", report["threads"][-1], "memory_ratio"))
    figure.set_figheight(5)
    axes = figure.subplots(len(MODES), len(columns), squeeze=False)
    for mode, line in zip(MODES, axes, strict=True):
        for (quantity, threads, key), axis in zip(columns, line, strict=True):
            groups: dict[str, dict[str, float]] = {}
            for row in report["rows"]:
                if (row["mode"], row["threads"]) == (mode, threads) and row["who"] != AFTER:
                    groups.setdefault(row["model"], {})[row["who"]] = row[key]
            draw_bars(axis, list(groups.items()))
            axis.set_title(f"{mode}, threads: {threads}")
            axis.set_ylabel(axis_label(f"{quantity} of after / this", better="lower"))
            axis.tick_params(axis="x", rotation=30 if len(columns) > 2 else 0)
    legend_below(figure)


def check(args: argparse.Namespace) -> None:
    """Check the arguments before measurements that take minutes.

    Raises:
        ValueError: a size or number out of range, or a package other than the working tree's.
    """
    if min(args.size) < UNIT or any(side % UNIT for side in args.size):
        raise ValueError(f"--size {args.size[0]} {args.size[1]}: both sides must be multiples of {UNIT} pixels")
    if min(args.batch_size, args.repeats, *args.threads) < 1:
        raise ValueError("--batch-size, --repeats and --threads must be at least 1")
    if Path(fpn_plugins.__file__).resolve().parent != ROOT / PACKAGE:
        raise ValueError(f"{PACKAGE} is imported from {fpn_plugins.__file__}, not from {ROOT}")


def run(args: argparse.Namespace) -> None:
    check(args)
    commits = {BEFORE: commit_of(args.before), AFTER: commit_of("HEAD")}
    peers = {name: peers_of(name, args.peers) for name in args.models}
    report: dict[str, Any] = {
        **provenance(["torch", PACKAGE, *dict.fromkeys(who for some in peers.values() for who in some)]),
        "commits": commits,
        "uncommitted": has_uncommitted_changes(),
        **{"threads": args.threads, "size": args.size, "batch": args.batch_size, "repeats": args.repeats},
        "largest_relative_difference": {},
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        extract(commits[BEFORE], Path(folder))
        plan = Plan(
            folder, tuple(args.size), args.batch_size, args.threads, args.repeats, not args.no_memory, args.tiny
        )
        for name in args.models:
            nets = {who: build(plan, name, who) for who in (BEFORE, AFTER, *peers[name])}
            inputs = make_inputs(name, plan.size, plan.batch)
            apart = report["largest_relative_difference"][name] = differences(nets, inputs)
            say(f"{name}: largest differences {apart}")
            report["rows"] += measure(plan, name, nets, inputs)
            write_report(args.out, report, table(report), draw)
    print(table(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REV", help="the older revision")
    parser.add_argument("--model", dest="models", nargs="+", choices=NAMES, default=(*BACKBONE_NAMES, "fpn", "bifpn"))
    parser.add_argument("--peer", dest="peers", nargs="*", choices=PACKAGES, default=("mmdet", "detectron2", "effdet"))
    parser.add_argument("--size", type=int, nargs=2, default=[384, 512], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--tiny", action="store_true", help="small backbones, to try the program")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    args = parser.parse_args()
    with user_errors():
        run(args)


if __name__ == "__main__":
    main()
