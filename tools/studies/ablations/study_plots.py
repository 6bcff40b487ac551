"""Plot an ablation study: AP by object size, AP against cost, learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study_words import detector_name

from fpn_plugins.visualization.figures import COLORS, MUTED, axis_label, legend_below, plot, series_color

if TYPE_CHECKING:
    from study_results import Summary

SIZE_METRICS = {"AP": "all", "AP_S": "small", "AP_M": "medium", "AP_L": "large"}
MARKERS = "oDs^vP*X"


def draw_choice(
    detectors: Mapping[tuple[str, str], Sequence[Summary]], metric: str, path: str | os.PathLike[str]
) -> Path:
    """Draw AP of objects of one size: a row per variant, in it a point per detector with its standard deviation.

    Args:
        detectors: toolbox and head -> results, best first in the plot as in the first of them.
        metric: ``"AP"`` or one of its sizes.
        path: PNG file.

    Raises:
        ValueError: no results, or more than eight detectors.
    """
    if not detectors:
        raise ValueError("there must be at least one result to draw")
    variants = list(dict.fromkeys(row.variant for rows in detectors.values() for row in rows))
    with plot(path, 1.1 + 0.4 * len(variants)) as figure:
        axis = figure.subplots()
        for index, (detector, summaries) in enumerate(detectors.items()):
            known = [row for row in summaries if row.mean[metric] is not None]
            ap, spread = ([getattr(row, name)[metric] or 0.0 for row in known] for name in ("mean", "deviation"))
            rows = [variants.index(row.variant) + _shift(detectors, detector, row.variant) for row in known]
            style = {"color": series_color(index), "fmt": MARKERS[index], "capsize": 2, "elinewidth": 1}
            axis.errorbar(ap, rows, xerr=spread, label=detector_name(*detector), **style)
        for row in range(1, len(variants)):
            axis.axhline(row - 0.5, color="#dddddd", linewidth=0.6)
        axis.set_yticks(range(len(variants)), variants)
        axis.set_ylim(len(variants) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.grid(axis="x")
        axis.set_xlabel(axis_label(f"box AP of {SIZE_METRICS[metric]} objects", "%", "higher"))
        legend_below(figure)
    return Path(path)


def _shift(detectors: Mapping[Any, Sequence[Summary]], detector: Any, variant: str) -> float:
    """Place of a detector's point in the row of a variant, from -0.3 to 0.3, beside those that have it too."""
    own = [key for key, summaries in detectors.items() if variant in {row.variant for row in summaries}]
    return 0.6 * ((own.index(detector) + 0.5) / len(own) - 0.5)


def draw_sizes(summaries: Sequence[Summary], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw AP of all, small, medium and large objects, one bar per variant with its standard deviation.

    Args:
        summaries: results of one toolbox and head.
        path: PNG file.
        title: headline.

    Raises:
        ValueError: no summaries.
    """
    if not summaries:
        raise ValueError("there must be at least one result to draw")
    rows = range(len(summaries))
    with plot(path, 1.2 + 0.2 * len(summaries)) as figure:
        axes = figure.subplots(1, len(SIZE_METRICS), sharey=True)
        for axis, (metric, size) in zip(axes, SIZE_METRICS.items(), strict=True):
            values = [summary.mean[metric] or 0.0 for summary in summaries]
            spread = [summary.deviation[metric] or 0.0 for summary in summaries]
            color = COLORS[0] if metric == "AP" else COLORS[5]
            axis.barh(rows, values, xerr=spread, color=color, error_kw={"linewidth": 1, "ecolor": MUTED})
            axis.set(title=f"{size} objects", xlabel=axis_label(metric, "%", "higher"), xlim=(0, None))
            axis.locator_params(axis="x", nbins=4)
            axis.grid(axis="x")
        labels = [f"{summary.variant} (rising)" if summary.unfinished else summary.variant for summary in summaries]
        axes[0].set_yticks(rows, labels)
        axes[0].invert_yaxis()
        if title:
            figure.suptitle(title)
    return Path(path)


def draw_cost(
    summaries: Sequence[Summary],
    results: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    title: str = "",
) -> Path:
    """Draw AP against the multiply-adds of the whole detector and, with ``results``, against the iteration.

    Args:
        summaries: results of one toolbox and head, of at most eight variants.
        results: contents of the result files behind them, for the means over the seeds during training; may be empty.
        path: PNG file.
        title: headline.

    Raises:
        ValueError: no summaries, or more than eight.
    """
    if not summaries:
        raise ValueError("there must be at least one result to draw")
    with plot(path, 3.2) as figure:
        axes = figure.subplots(1, 2 if results else 1, sharey=True, squeeze=False)[0]
        for index, summary in enumerate(summaries):
            style = {"color": series_color(index), "marker": MARKERS[index]}
            deviation = summary.deviation["AP"] or 0.0
            if summary.mean["AP"] is not None:
                error = {"yerr": deviation, "linestyle": "none", "capsize": 2, "elinewidth": 1}
                axes[0].errorbar(summary.gmacs, summary.mean["AP"], label=summary.variant, **error, **style)
            curve = _curve(summary.variant, results)
            if curve:
                axes[1].plot(list(curve), list(curve.values()), **style)
        axes[0].set_xlabel(axis_label("multiply-adds of the detector", "billions", "lower"))
        if results:
            axes[1].set(xlabel="iteration")
        for axis in axes:
            axis.set_ylabel(axis_label("AP", "%", "higher"))
            axis.set_ylim(bottom=0)
            axis.grid()
        legend_below(figure)
        if title:
            figure.suptitle(title)
    return Path(path)


def _curve(variant: str, results: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Mean AP over the seeds by iteration."""
    points: dict[int, list[float]] = {}
    for result in results:
        if result["cell"]["variant"]["name"] == variant:
            for point in result["curve"]:
                points.setdefault(point["iteration"], []).append(100 * point["AP"])
    return {iteration: sum(points[iteration]) / len(points[iteration]) for iteration in sorted(points)}
