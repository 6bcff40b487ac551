"""Describe where a measurement comes from, and write its report as JSON, Markdown and a picture."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fpn_plugins.analysis.peak_memory import processor, thread_count
from fpn_plugins.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
DOCS, TOOLS = ROOT / "docs", ROOT / "tools"
Draw = Callable[[dict[str, Any], "Figure"], None]


def machine() -> dict[str, Any]:
    """Processor, threads and PyTorch version of a measurement."""
    return {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def provenance(packages: Iterable[str]) -> dict[str, Any]:
    """Day, command line, machine and package versions of a measurement."""
    versions = {name: _version(name) for name in packages}
    return {"date": datetime.date.today().isoformat(), "command": command_line(), **machine(), "versions": versions}


def command_line() -> str:
    """Command line of this process without the place of its output, with the script's path from the repository."""
    script, *arguments = sys.argv
    if "--out" in arguments:
        place = arguments.index("--out")
        del arguments[place : place + 2]
    path = Path(script).resolve()
    return shlex.join([str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name, *arguments])


def measured(report: dict[str, Any]) -> str:
    """Beginning of a page's first sentence: when, by which command and on which machine the report was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = f"{report['processor']}, {thread_count(report['threads'])}"
    return f"Measured on {report['date']} by `{report['command']}` on {machine}, with {versions}"


def conditions(report: dict[str, Any]) -> str:
    """`measured`, with the sizes of the images and the batch."""
    sides = report["sizes"] if "sizes" in report else [report["size"]]
    sizes = ", ".join(f"{height} x {width}" for height, width in sides)
    return f"{measured(report)}: images of {sizes} pixels, batch {report['batch']}"


def _version(package: str) -> str:
    """Version that the package itself states: a rebuilt one may be distributed under another name."""
    found = getattr(importlib.import_module(package), "__version__", None)
    return found or importlib.metadata.version(package)


def draw_bars(axis: Any, groups: Sequence[tuple[str, Mapping[str, float]]], line: float = 1) -> None:
    """Draw labeled groups of bars, each name in one color, and a horizontal line at ``line``.

    Bars of a group stand side by side, without gaps for names that it does not have.
    """
    from fpn_plugins.visualization.figures import series_color

    names = list(dict.fromkeys(name for _, values in groups for name in values))
    width = 0.84 / max((len(values) for _, values in groups), default=1)
    for index, name in enumerate(names):
        bars = {}
        for x, (_, values) in enumerate(groups):
            if name in values:
                own = [other for other in names if other in values]
                bars[x + (own.index(name) - (len(own) - 1) / 2) * width] = values[name]
        axis.bar(list(bars), list(bars.values()), width, label=name, color=series_color(index))
    axis.axhline(line, color="black", linewidth=0.8)
    axis.grid(axis="y")
    axis.set_xticks(range(len(groups)), [name for name, _ in groups])


def label_powers(axis: Any) -> None:
    """Label 1, 2 and 5 times the powers of ten on a logarithmic axis, and draw its grid."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid()


def write_report(out: Path, report: dict[str, Any], page: str, draw: Draw | None = None) -> None:
    """Write ``OUT.json``, ``OUT.md`` and, with ``draw``, ``OUT.png``; create the folder.

    If ``out`` is below ``tools/``, where the published measurements are, page and picture go to ``docs/``.
    """
    pages = DOCS / out.name if out.resolve().is_relative_to(TOOLS) else out
    out.parent.mkdir(parents=True, exist_ok=True)
    texts = {out.with_suffix(".json"): json.dumps(report, indent=2) + "\n", pages.with_suffix(".md"): page}
    for path, text in texts.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if draw is not None:  # the only use of matplotlib and numpy
        from fpn_plugins.visualization.figures import plot

        with plot(pages.with_suffix(".png"), 3.2) as figure:
            draw(report, figure)
