"""Render the comparison of compiled and eager detectors, which `compiled_detectors.py` measures, as a page."""

from __future__ import annotations

from typing import Any

from bench_report import conditions, draw_bars
from detector_passes import INFERENCE, MODES, TOOLBOXES
from timing import PROCESSOR

from fpn_plugins.visualization.figures import axis_label, legend_below

METHOD = """\
"eager" and "compiled" run in turn in one process, with the same weights and images, in fp32. Times are medians of
processor times, with those of the compilers, which other programs on the machine change little; where a row has a
\\*, they are elapsed times, which such programs make longer, so compare the ratios. A ratio is the median over
neighboring runs, lower is better. Inference is from pixels to objects. Training is forward pass, losses and backward
pass, without an optimizer. Compiled is the pyramid alone (`compile=True`): backbone and neck, in one module or in two.
The rest of the detector is eager. "first pass" is the first call with an empty cache, in which the graphs for this size
are compiled, in training with the backward pass; "from the cache" is the same after another start, from the files of
the first one. "paid back" is the number of images after which the first pass, from an empty cache, has paid. "graphs"
counts those of the forward pass over 12 image sizes, for each compiled module: first those of inference, then those
that training adds. Detectors with ViT-S pad each image to 1024 x 1024 pixels. These are CPU
figures; on a GPU, the gains are larger, see [compile](guides/compile.md)."""
COLUMNS = ("toolbox", "detector", "", "eager, ms", "compiled, ms", "compiled / eager", "first pass, s")
COLUMNS += ("from the cache, s", "images until paid back", "graphs")
EAGER, COMPILED = "eager", "compiled"


def paid_back(row: dict[str, Any], batch: int) -> float:
    """Number of images after which the first pass has paid; infinite if compiling does not pay."""
    gain = row["seconds"][EAGER] * (1 - row["ratio"]) / batch
    cost = row["first_pass_seconds"][0] - row["seconds"][EAGER]
    return cost / gain if gain > 0 else float("inf")


def table(row: dict[str, Any], batch: int) -> str:
    """Make the line of the Markdown table."""
    images = paid_back(row, batch)
    columns = [row["toolbox"], row["detector"], row["mode"] + ("" if row.get("clock") == PROCESSOR else " \\*")]
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


def missing(rows: list[dict[str, Any]]) -> list[str]:
    """Say which rows of the measured detectors are missing."""
    done = {(row["toolbox"], row["detector"], row["mode"]) for row in rows}
    detectors = dict.fromkeys(row["detector"] for row in rows)
    wanted = [(toolbox, detector, mode) for detector in detectors for toolbox in TOOLBOXES for mode in MODES]
    names = [
        f"{toolbox} {detector}, {mode}" for toolbox, detector, mode in wanted if (toolbox, detector, mode) not in done
    ]
    return ["", f"Not measured: {'; '.join(names)}."] if names else []


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Detectors with the pyramid compiled in place",
        "",
        f"{conditions(report)}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * 3}{'--:|' * 7}",
        *(table(row, report["batch"]) for row in report["rows"]),
        *missing(report["rows"]),
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
