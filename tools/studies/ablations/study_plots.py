"""Plot an ablation study: AP by object size, AP against cost, learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpn_plugins.files import write_atomically

if TYPE_CHECKING:
    from study_results import Summary

SIZE_METRICS = ("AP", "AP_S", "AP_M", "AP_L")


def draw_sizes(summaries: Sequence[Summary], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw AP of all, small, medium and large objects, one bar per variant with its standard deviation.

    Args:
        summaries: results of one toolbox and head.
        path: PNG file.
        title: headline.

    Raises:
        ValueError: no summaries.
    """
    figure, axes = _figure(summaries, (13, 1.4 + 0.34 * len(summaries)), len(SIZE_METRICS), sharey=True)
    rows = range(len(summaries))
    for axis, metric in zip(axes, SIZE_METRICS, strict=True):
        axis.barh(
            rows,
            [summary.mean[metric] or 0.0 for summary in summaries],
            xerr=[summary.deviation[metric] or 0.0 for summary in summaries],
            color="#4c78a8" if metric == "AP" else "#9ecae9",
            error_kw={"linewidth": 1},
        )
        axis.set_title(metric, fontsize=10)
    axes[0].set_yticks(rows, [summary.variant for summary in summaries], fontsize=9)
    axes[0].invert_yaxis()
    return _save(figure, axes, path, title)


def draw_cost(summaries: Sequence[Summary], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw AP against the GMACs of the whole detector, one point per variant; arguments as in `draw_sizes`.

    Names are listed beside the axes in order of AP, each with a line to its point, because points lie close together.
    """
    figure, axes = _figure(summaries, (9, 6))
    (axis,) = axes
    points = {
        s.variant: (s.gmacs, s.mean["AP"], s.deviation["AP"] or 0.0) for s in summaries if s.mean["AP"] is not None
    }
    ranked = sorted(points, key=lambda name: points[name][1], reverse=True)
    for rank, name in enumerate(ranked):
        gmacs, ap, deviation = points[name]
        axis.errorbar(gmacs, ap, yerr=deviation, fmt="o", color="#4c78a8", capsize=2)
        axis.annotate(
            name,
            (gmacs, ap),
            xytext=(1.02, 1 - (rank + 0.5) / len(ranked)),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.6, "relpos": (0, 0.5)},
        )
    axis.set_xlabel("GMACs of the detector, one image")
    axis.set_ylabel("AP")
    return _save(figure, axes, path, title)


def draw_curves(results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw the mean AP over the seeds of each variant against the iteration.

    Args:
        results: contents of the result files of one toolbox and head.
        path: PNG file.
        title: headline.

    Raises:
        ValueError: no results.
    """
    from matplotlib import colormaps

    figure, axes = _figure(results, (10, 6))
    (axis,) = axes
    variants = list(dict.fromkeys(result["cell"]["variant"]["name"] for result in results))
    for index, variant in enumerate(variants):
        points: dict[int, list[float]] = {}
        for result in results:
            if result["cell"]["variant"]["name"] == variant:
                for point in result["curve"]:
                    points.setdefault(point["iteration"], []).append(100 * point["AP"])
        iterations = sorted(points)
        means = [sum(points[iteration]) / len(points[iteration]) for iteration in iterations]
        axis.plot(iterations, means, marker="o", markersize=3, label=variant, color=colormaps["tab20"](index % 20))
    axis.set_xlabel("iteration")
    axis.set_ylabel("AP")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return _save(figure, axes, path, title)


def _figure(rows: Sequence[Any], size: tuple[float, float], columns: int = 1, **arguments: Any) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("there must be at least one result to draw")
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False, **arguments)[0]


def _save(figure: Any, axes: Sequence[Any], path: str | os.PathLike[str], title: str) -> Path:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)
