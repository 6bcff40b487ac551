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

from fpn_plugins.analysis.peak_memory import processor
from fpn_plugins.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]


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
    machine = f"{report['processor']}, {report['threads']} threads"
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
    """Draw labeled groups of bars, each name in one color and place, and a horizontal line at ``line``."""
    names = list(dict.fromkeys(name for _, values in groups for name in values))
    width = 0.8 / max(len(names), 1)
    for place, name in enumerate(names):
        offset = (place - (len(names) - 1) / 2) * width
        bars = {x + offset: values[name] for x, (_, values) in enumerate(groups) if name in values}
        axis.bar(list(bars), list(bars.values()), width, label=name)
    axis.axhline(line, color="black", linewidth=0.8)
    axis.set_xticks(range(len(groups)), [name for name, _ in groups])


def write_report(
    out: Path, report: dict[str, Any], page: str, draw: Callable[[dict[str, Any], Figure], None] | None = None
) -> None:
    """Write ``OUT.json``, ``OUT.md`` and, with ``draw``, ``OUT.png``; create the folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(report, indent=2) + "\n"), (".md", page)):
        with write_atomically(out.with_suffix(suffix)) as temporary:
            temporary.write_text(text)
    if draw is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    draw(report, figure)
    with write_atomically(out.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=120)
