"""Draw topologies of necks: levels are rows, steps are columns, arrows carry maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topology import Box, Topology

from fpn_plugins.files import write_atomically

# colors that differ in brightness as well
KINDS: dict[str, tuple[str, Any, str]] = {
    "same": ("#555555", "-", "same level"),
    "down": ("#c2410c", "-", "top-down, upsampled"),
    "up": ("#1d4ed8", "-", "bottom-up, downsampled"),
    "far": ("#7e22ce", (0, (4, 2)), "several levels"),
}
ROLES = {
    "input": ("#dbeafe", "#1e3a8a"),
    "inner": ("#ffffff", "#525252"),
    "merge": ("#fef3c7", "#92400e"),
    "output": ("#dcfce7", "#166534"),
}


def draw_topology(topology: Topology, path: str | os.PathLike[str], title: str) -> Path:
    """Draw one neck into a PNG file and return its path."""
    return _save({title: topology}, path, columns=1)


def draw_topologies(topologies: Mapping[str, Topology], path: str | os.PathLike[str], columns: int = 3) -> Path:
    """Draw several necks side by side into a PNG file and return its path.

    Raises:
        ValueError: no necks.
    """
    if not topologies:
        raise ValueError("topologies must hold at least one neck")
    return _save(topologies, path, columns)


def _save(topologies: Mapping[str, Topology], path: str | os.PathLike[str], columns: int) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(columns, len(topologies))
    rows = -(-len(topologies) // columns)
    widest = max(len(topology.columns) for topology in topologies.values())
    width = max(6.4, 1.25 * widest + 0.9) if len(topologies) == 1 else 5.4
    tall = max(_height(topology) for topology in topologies.values())
    figure = Figure(figsize=(width * columns, (0.72 * tall + 1.1) * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, topology) in zip(axes, topologies.items(), strict=False):
        _draw(axis, title, topology)
    used = {t.kind(source, target) for t in topologies.values() for source, target, _ in t.arrows}
    lines = [
        Line2D([], [], color=color, linestyle=style, label=label)
        for kind, (color, style, label) in KINDS.items()
        if kind in used
    ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, columnspacing=1.2, frameon=False
    )
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)


def _height(topology: Topology) -> float:
    levels = [box.level for box in topology.boxes.values()]
    return max(levels) - min(levels) + 1


def _draw(axis: Any, title: str, topology: Topology) -> None:
    levels = sorted({int(box.level) for box in topology.boxes.values()})
    axis.set_title(title, fontsize=12, fontweight="bold")
    axis.set_xlim(-1.05, len(topology.columns) - 0.45)
    axis.set_ylim(levels[0] - 0.55, levels[-1] + 0.95)
    for level in levels:
        axis.axhspan(level - 0.42, level + 0.42, color="#f5f5f4", zorder=0)
        axis.text(-1.0, level, f"1/{2**level}", fontsize=8, color="#78716c", va="center")
    for column, text in enumerate(topology.columns):
        axis.text(column, levels[-1] + 0.55, text, fontsize=8, color="#44403c", ha="center", va="bottom")
    for source, target, label in topology.arrows:
        _draw_arrow(axis, topology, source, target, label)
    for box in topology.boxes.values():
        face, edge = ROLES[box.role]
        style = {"boxstyle": "round,pad=0.28", "facecolor": face, "edgecolor": edge, "linewidth": 1.1}
        axis.text(box.column, box.level, box.label, fontsize=8.5, ha="center", va="center", bbox=style, zorder=3)


def _draw_arrow(axis: Any, topology: Topology, source: str, target: str, label: str) -> None:
    start, end = topology.boxes[source], topology.boxes[target]
    color, line, _ = KINDS[topology.kind(source, target)]
    bend = _bend(topology, start, end)
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "linestyle": line,
        "linewidth": 1.3,
        "shrinkA": _margin(start, level=start.level == end.level),
        "shrinkB": _margin(end, level=start.level == end.level),
        "mutation_scale": 9,
        "connectionstyle": f"arc3,rad={bend}",
    }
    ends = {"xy": (end.column, end.level), "xytext": (start.column, start.level)}
    axis.annotate("", arrowprops=style, zorder=2, **ends)
    if label:
        middle = ((start.column + end.column) / 2, (start.level + end.level) / 2 + (0.16 if bend == 0 else 0.34))
        axis.text(*middle, label, fontsize=6.8, color=color, ha="center", va="center", zorder=4)


def _margin(box: Box, level: bool) -> float:
    """Return the points by which a label shortens an arrow: by its letters if the arrow is level, else by its lines."""
    lines = box.label.splitlines()
    letters = max(len(line) for line in lines)
    return 7 + (2.3 * letters if level else 0.6 * letters + 6 * (len(lines) - 1))


def _bend(topology: Topology, start: Box, end: Box) -> float:
    """Return the curvature of an arrow: none unless a map is in its way."""
    wide, high = end.column - start.column, end.level - start.level

    def between(box: Box) -> bool:
        right, up = box.column - start.column, box.level - start.level
        inside = 0 < right * wide + up * high < wide**2 + high**2
        return inside and abs(right * high - up * wide) < 1e-6

    if not any(between(box) for box in topology.boxes.values()):
        return 0.0
    return -0.5 / max(1.0, abs(wide))
