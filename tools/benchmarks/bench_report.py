"""What the benchmarks share: where a report comes from, and its three files."""

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

from fpn_plugins.analysis.latency import hardware
from fpn_plugins.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def provenance(packages: Iterable[str]) -> dict[str, Any]:
    """Day, command line, hardware and versions of a measurement."""
    versions = {name: _version(name) for name in packages}
    return {"date": datetime.date.today().isoformat(), "command": command_line(), **hardware(), "versions": versions}


def command_line() -> str:
    """What this process was called with, but for where it writes."""
    tool, *arguments = sys.argv
    if "--out" in arguments:
        place = arguments.index("--out")
        del arguments[place : place + 2]
    place = Path(tool).resolve()
    tools = Path(__file__).resolve().parent
    name = place.relative_to(tools.parent) if place.is_relative_to(tools) else f"tools/{place.name}"
    return shlex.join([str(name), *arguments])


def measured(report: dict[str, Any]) -> str:
    """By what, where and when a report came about: the sentence that a page begins with, to be gone on with."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = f"{report['processor']}, {report['threads']} threads"
    return f"Measured on {report['date']} by `{report['command']}` on {machine}, with {versions}"


def conditions(report: dict[str, Any]) -> str:
    """`measured`, and the images."""
    sides = report["sizes"] if "sizes" in report else [report["size"]]
    sizes = ", ".join(f"{height} x {width}" for height, width in sides)
    return f"{measured(report)}: images of {sizes} pixels, batch {report['batch']}"


def _version(package: str) -> str:
    """By the package's own word, as a rebuilt one may be distributed under another name."""
    found = getattr(importlib.import_module(package), "__version__", None)
    return found or importlib.metadata.version(package)


def draw_bars(axis: Any, groups: Sequence[tuple[str, Mapping[str, float]]], line: float = 1) -> None:
    """Groups of bars, by name of the group; those of one name have one colour and place in each; and a ``line``."""
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
    """Write ``OUT.json``, ``OUT.md`` and, with ``draw``, ``OUT.png``; the folder is made."""
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
