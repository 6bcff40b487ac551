"""Plot the cost of networks by component as stacked bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..analysis.report import GIGA, MEGA, MIB, CostReport
from ..extras import needed_for
from .figures import new_figure, save_png

# field of a component's cost, unit, and title of its bars
MEASURES = (
    ("parameters", MEGA, "parameters (M)"),
    ("macs", GIGA, "GMACs"),
    ("activation_bytes", MIB, "kept for backward (MiB)"),
)
# one hue per part, with components from dark to light
HUES = {"backbone": "Blues_r", "neck": "Oranges_r", "head": "Greens_r"}


def draw_costs(reports: Sequence[CostReport], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw one bar per network for parameters, MACs and activations, stacked by component, to the PNG ``path``.

    Raises:
        ValueError: no reports, or ``path`` has another suffix than ``.png``.
    """
    with needed_for("pictures"):
        from matplotlib.patches import Patch

    if not reports:
        raise ValueError("reports must hold at least one cost report")
    figure = new_figure(12, 1.6 + 0.75 * len(reports))
    axes = figure.subplots(1, len(MEASURES), sharey=True)
    colors = _colors(reports)
    for axis, (field, unit, label) in zip(axes, MEASURES, strict=True):
        for row, report in enumerate(reports):
            _draw_bar(axis, row, report, field, unit, colors)
        axis.set_title(label, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    axes[0].set_yticks(range(len(reports)), [report.title for report in reports], fontsize=9)
    axes[0].invert_yaxis()
    patches = [Patch(color=color, label=f"{part}: {name}") for (part, name), color in colors.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return save_png(figure, path)


def _colors(reports: Sequence[CostReport]) -> dict[tuple[str, str], Any]:
    """Assign a color to each component, by part and name, in the order of the reports."""
    with needed_for("pictures"):
        from matplotlib import colormaps

    found = {}
    for part, hue in HUES.items():
        names = list(dict.fromkeys(c.name for report in reports for c in report.components if c.part == part))
        for index, name in enumerate(names):
            found[part, name] = colormaps[hue](0.1 + 0.65 * index / max(1, len(names) - 1))
    return found


def _draw_bar(axis: Any, row: int, report: CostReport, field: str, unit: float, colors: dict[Any, Any]) -> None:
    left, total = 0.0, getattr(report.total(), field) / unit
    for cost in report.components:
        width = getattr(cost, field) / unit
        axis.barh(row, width, left=left, color=colors[cost.part, cost.name], edgecolor="white", linewidth=0.5)
        left += width
    axis.annotate(f" {total:.1f}", (total, row), va="center", fontsize=9)
