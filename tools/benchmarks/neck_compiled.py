"""Time necks eager and through `torch.compile`, for `necks.py --compile`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bench_report import conditions, draw_bars
from neck_cases import CASES, OURS
from neck_passes import COMPILED, LAST, MODES, NeckSetting, prepare
from timing import interleaved_seconds, median_ratio

from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
All necks run in turn in one process, on maps of random values, in NCHW layout unless stated. Times are medians; ratios
are medians over neighboring runs, lower is better. Ours are compiled with `fullgraph=True`, which fails at a graph
break: each compiled row of ours is one graph, and in training one more for the backward pass. Graphs of the others may
break. All are compiled for this one size. "first pass" is the first call, which compiles with empty caches. These are
CPU figures; they say nothing about a GPU."""
TABLE = ("neck", "", "", "ms", "compiled, ms", "compiled / eager", "ours compiled / this")
TABLE += ("ours compiled / this compiled", "first pass, s")


def measure_compiled(kind: str, setting: NeckSetting, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one kind of neck."""
    torch.compile(torch.relu, backend=setting.backend)(torch.ones(1))  # start the compiler itself
    for mode in MODES:
        torch.compiler.reset()
        print(f"{kind}: {mode}, compiling with {setting.backend}", file=sys.stderr, flush=True)
        passes: dict[str, Callable[[], Any]] = {}
        first: dict[str, float] = {}
        failed: dict[str, str] = {}
        for who in (OURS, OURS + LAST, *CASES[kind].installed()):
            passes[who] = prepare(kind, who, mode, setting)
            compiled = prepare(kind, who + COMPILED, mode, setting)
            try:
                first[who] = first_pass(compiled)
            except Exception as error:  # any failure of the compiler; for ours it is a bug
                if who.startswith(OURS):
                    raise
                failed[who] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            else:
                passes[who + COMPILED] = compiled
                print(f"{kind}: {mode}, {who}: first pass {first[who]:.0f} s", file=sys.stderr, flush=True)
        print(f"{kind}: {mode}, {repeats} rounds of {'; '.join(passes)}", file=sys.stderr, flush=True)
        seconds = interleaved_seconds(passes, repeats)
        yield {
            "neck": kind,
            "mode": mode,
            "first_pass_seconds": first,
            "does_not_compile": failed,
            "seconds": {who: statistics.median(times) for who, times in seconds.items()},
            "compiled_by_eager": {who: median_ratio(seconds[who + COMPILED], seconds[who]) for who in first},
            "time_ratios": {who: median_ratio(seconds[OURS + COMPILED], times) for who, times in seconds.items()},
        }


def first_pass(job: Callable[[], Any]) -> float:
    """Wall-clock seconds of a run that compiles with empty caches."""
    with torch.compiler.config.patch(force_disable_caches=True):
        start = time.perf_counter()
        job()
        return time.perf_counter() - start


def table(row: dict[str, Any]) -> Iterator[str]:
    """Yield lines of the Markdown table, one per neck."""
    for who in row["compiled_by_eager"]:
        eager, compiled = row["seconds"][who], row["seconds"][who + COMPILED]
        columns = [row["neck"], row["mode"], who, f"{1e3 * eager:.1f}", f"{1e3 * compiled:.1f}"]
        columns += [f"{row['compiled_by_eager'][who]:.2f}", f"{row['time_ratios'][who]:.2f}"]
        columns += [f"{row['time_ratios'][who + COMPILED]:.2f}", f"{row['first_pass_seconds'][who]:.1f}"]
        yield f"| {' | '.join(columns)} |"
    for who, why in row["does_not_compile"].items():
        eager = f"{1e3 * row['seconds'][who]:.1f}"
        ratio = f"{row['time_ratios'][who]:.2f}"
        yield f"| {row['neck']} | {row['mode']} | {who} | {eager} | does not compile: {why} | | {ratio} | | |"


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    precision = "bf16 autocast" if report["bf16"] else "fp32"
    lines = [
        "# Necks through torch.compile",
        "",
        f"{conditions(report)}, {precision}, backend {report['backend']}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        f"| {' | '.join(TABLE)} |",
        f"|{'---|' * 3}{'--:|' * 6}",
        *(line for row in report["rows"] for line in table(row)),
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the time of each compiled neck relative to the eager one."""
    for axis, mode in zip(figure.subplots(1, len(MODES), sharey=True), MODES, strict=True):
        draw_bars(axis, [(row["neck"], row["compiled_by_eager"]) for row in report["rows"] if row["mode"] == mode])
        axis.set(title=mode, ylabel=axis_label("compiled time / eager time", better="lower"))
    legend_below(figure)
