"""Draw the objects of a data set beside the anchors of a recipe and those of the toolboxes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis import AnchorReach
from ..extras import needed_for
from .figures import MUTED, legend_below, plot, series_color

with needed_for("pictures"):
    import numpy as np


def plot_anchor_reach(
    boxes: np.ndarray,
    anchors: Mapping[str, tuple[Sequence[Sequence[float]], Sequence[float]]],
    reach: Mapping[str, Mapping[str, AnchorReach]],
    path: str | os.PathLike[str],
) -> Path:
    """Plot widths and heights of objects with the anchors, and the share of the objects that the anchors reach.

    Args:
        boxes: widths and heights of the objects in input pixels, ``2 N``.
        anchors: name -> sides of each level's square anchors in pixels, and ratios height / width.
        reach: the same names -> coverage by size class, see `fpn_plugins.analysis.anchor_reach`.
        path: PNG file to write; it is returned.

    Raises:
        ValueError: ``path`` has another suffix than ``.png``.
    """
    with plot(path, 3.4) as figure:
        shapes, shares = figure.subplots(1, 2, width_ratios=(3, 2))
        shapes.scatter(boxes[0], boxes[1], s=4, color=MUTED, alpha=0.4, linewidths=0, label="objects")
        for index, (name, (sizes, ratios)) in enumerate(anchors.items()):
            sides = np.array(
                [(side / ratio**0.5, side * ratio**0.5) for of in sizes for side in of for ratio in ratios]
            )
            style: dict[str, Any] = {"s": 22, "marker": "+x"[index % 2], "linewidths": 1.0}
            shapes.scatter(*sides.T, color=series_color(index), label=f"{name} anchors", **style)
        shapes.set_xscale("log", base=2)
        shapes.set_yscale("log", base=2)
        for axis in (shapes.xaxis, shapes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        shapes.set(xlabel="width, px", ylabel="height, px")
        classes = list(dict.fromkeys(name for found in reach.values() for name in found))
        for index, found in enumerate(reach.values()):
            values = [100 * found[size].covered if size in found else 0.0 for size in classes]
            places = [place + (index - (len(reach) - 1) / 2) * 0.4 for place in range(len(classes))]
            shares.bar_label(shares.bar(places, values, 0.4, color=series_color(index)), fmt="%.0f")
        shares.set_xticks(range(len(classes)), classes)
        shares.set(ylabel="objects with an IoU of 0.5 or more, %", ylim=(0, 110))
        legend_below(figure)
        figure.suptitle(f"{boxes.shape[1]} objects after resizing")
    return Path(path)
