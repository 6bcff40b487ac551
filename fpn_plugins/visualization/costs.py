"""Plot the cost of networks by component as stacked bars."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.report import GIGA, MEGA, MIB, ComponentCost, CostReport
from ..extras import needed_for
from .figures import COLORS, axis_label, legend_below, plot, series_color

# field of a component's cost, unit, and label of its axis
MEASURES = (
    ("parameters", MEGA, axis_label("parameters", "millions", "lower")),
    ("macs", GIGA, axis_label("multiply-adds", "billions", "lower")),
    ("activation_bytes", MIB, axis_label("kept for backward", "MiB", "lower")),
)
OTHERS = "other components"


def draw_costs(reports: Sequence[CostReport], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw one bar per network for parameters, MACs and activations, stacked by component, to the PNG ``path``.

    A plot shows eight components at most: of more, those with the smallest shares are drawn as one.

    Raises:
        ValueError: no reports, or ``path`` has another suffix than ``.png``.
    """
    with needed_for("plots"):
        from matplotlib.patches import Patch

    if not reports:
        raise ValueError("reports must hold at least one cost report")
    colors = _colors(reports)
    with plot(path, 1.5 + 0.42 * len(reports) + 0.18 * len(colors)) as figure:
        axes = figure.subplots(1, len(MEASURES), sharey=True)
        for axis, (field, unit, label) in zip(axes, MEASURES, strict=True):
            for row, report in enumerate(reports):
                _draw_bar(axis, row, report, field, unit, colors)
            axis.set_xlabel(label)
            axis.margins(x=0.22)
            axis.locator_params(axis="x", nbins=4)
        axes[0].set_yticks(range(len(reports)), [report.title for report in reports])
        axes[0].invert_yaxis()
        legend_below(figure, [Patch(color=color, label=name) for name, color in colors.items()])
        if title:
            figure.suptitle(title)
    return Path(path)


def _colors(reports: Sequence[CostReport]) -> dict[str, str]:
    """Assign a color to each component in the order of the reports, and one to all components with small shares."""
    shares: dict[str, float] = {}
    for report in reports:
        total = report.total()
        for cost in report.components:
            largest = max(getattr(cost, field) / (getattr(total, field) or 1) for field, _, _ in MEASURES)
            shares[_name(cost)] = max(largest, shares.get(_name(cost), 0.0))
    if len(shares) <= len(COLORS):
        return {name: series_color(index) for index, name in enumerate(shares)}
    shown = sorted(shares, key=lambda name: -shares[name])[: len(COLORS) - 1]
    names = [*(name for name in shares if name in shown), OTHERS]
    return {name: series_color(index) for index, name in enumerate(names)}


def _name(cost: ComponentCost) -> str:
    return f"{cost.part}: {cost.name}"


def _draw_bar(axis: Any, row: int, report: CostReport, field: str, unit: float, colors: Mapping[str, str]) -> None:
    left, total = 0.0, getattr(report.total(), field) / unit
    widths = dict.fromkeys(colors, 0.0)
    for cost in report.components:
        widths[_name(cost) if _name(cost) in colors else OTHERS] += getattr(cost, field) / unit
    for name, width in widths.items():
        axis.barh(row, width, left=left, color=colors[name], edgecolor="white", linewidth=0.5)
        left += width
    axis.annotate(f" {total:.1f}", (total, row), va="center")
