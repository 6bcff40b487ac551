"""Plot a data set's object sizes: their histogram, their pyramid levels, and the levels' weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..data.coco_report import SIZE_CLASSES
from .figures import COLORS, legend_below, plain, plot, series_color


def plot_size_statistics(stats: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Plot the histogram of object sizes, and the share of objects on each pyramid level.

    Args:
        stats: result of `fpn_plugins.data.size_statistics`.
        path: PNG file to write; it is returned.

    Raises:
        ValueError: ``stats`` holds no object, or ``path`` has another suffix than ``.png``.
    """
    if not stats["objects"]:
        raise ValueError(f"stats of {stats['ann_file']} hold no object; nothing to draw")
    with plot(path, 3.0) as figure:
        histogram, levels = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_histogram(histogram, stats)
        _draw_levels(levels, stats)
        legend_below(figure)
        figure.suptitle(_headline(stats))
    return Path(path)


def plot_level_weights(report: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Plot each level's share of the objects, unweighted and weighted.

    Args:
        report: result of `fpn_plugins.data.level_weight_report`.
        path: PNG file to write; it is returned.
    """
    levels = report["levels"]
    shares = [100 * level["share"] for level in levels]
    weighted = [100 * level["share"] * level["weight"] for level in levels]
    with plot(path, 3.0) as figure:
        axes = figure.subplots()
        pairs = {"objects": shares, "objects x weight": weighted}
        bars = _draw_pairs(axes, [level["level"] for level in levels], pairs)
        axes.bar_label(bars, [f"x {level['weight']:.2f}" for level in levels])
        axes.set(xlabel=f"pyramid level ({_image_size(report)})", ylabel="share, %")
        legend_below(figure)
        figure.suptitle(_headline(report))
    return Path(path)


def _headline(content: dict[str, Any]) -> str:
    return f"{plain(Path(content['ann_file']).name)}: {content['objects']} objects"


def _draw_histogram(axes: Any, stats: dict[str, Any]) -> None:
    edges, counts = stats["histogram"]["edges"], stats["histogram"]["counts"]
    widths = [right - left for left, right in zip(edges, edges[1:], strict=False)]
    axes.bar(edges[:-1], counts, widths, align="edge", color=COLORS[0], edgecolor="white", linewidth=0.5)
    axes.set_xscale("log", base=2)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="object size (square root of the area), px", ylabel="number of objects")
    axes.set_ylim(0, 1.25 * max(counts))  # room for the names of the size classes
    limits = [edges[0], *(area**0.5 for area in SIZE_CLASSES.values())]
    for (name, count), low, high in zip(stats["size_classes"].items(), limits, limits[1:], strict=False):
        left, right = max(low, edges[0]), min(high, edges[-1])
        if left >= right:
            continue
        if left > edges[0]:
            axes.axvline(left, color="0.5", linestyle=":")
        axes.text((left * right) ** 0.5, 1.13 * max(counts), f"{name}\n{count}", ha="center", va="center")


def _draw_levels(axes: Any, stats: dict[str, Any]) -> None:
    fpn, retinanet = stats["fpn_level_share"], stats["retinanet_level_share"]
    names = sorted({*fpn, *retinanet})
    first, second = ([100 * shares.get(name, 0.0) for name in names] for shares in (fpn, retinanet))
    _draw_pairs(axes, names, {"FPN (p2-p5)": first, "RetinaNet (p3-p7)": second})
    axes.set(xlabel=f"pyramid level ({_image_size(stats)})", ylabel="share of objects, %")


def _draw_pairs(axes: Any, names: list[str], series: dict[str, list[float]]) -> Any:
    """Draw two labeled bars per name; return the bars of the second series."""
    for index, ((label, values), offset) in enumerate(zip(series.items(), (-0.2, 0.2), strict=True)):
        places = [place + offset for place in range(len(names))]
        bars = axes.bar(places, values, 0.4, label=label, color=series_color(index))
    axes.set_xticks(range(len(names)), names)
    return bars


def _image_size(content: dict[str, Any]) -> str:
    return "x".join(map(str, content["resize"])) if content["resize"] else "original size"
