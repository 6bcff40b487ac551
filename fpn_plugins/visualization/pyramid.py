"""The maps of a backbone and its neck as one labelled picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .figures import new_figure, save_png

if TYPE_CHECKING:
    import numpy as np


def energy(feature: Tensor) -> Tensor:
    """Mean absolute activation over the channels of ``C H W``, scaled to 0..1: where a level responds, not to what.

    A map that is the same everywhere, but for rounding, is shown as 0.
    """
    strength = feature.detach().float().abs().mean(dim=0)
    low, high = strength.min(), torch.quantile(strength.flatten(), 0.995)
    return ((strength - low) / torch.maximum(high - low, 1e-3 * high).clamp(min=1e-12)).clamp(0, 1)


def draw_pyramid(
    image: np.ndarray,
    rows: Mapping[str, Mapping[str, Tensor]],
    path: str | os.PathLike[str],
    title: str = "",
    objects: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Draw every level of every row over a dimmed copy of the image.

    Args:
        image: ``H W 3``, RGB, 0..255.
        rows: row title (``"backbone"``, ``"neck"``) -> level name (``"c2"``) -> map ``C H W``, high to low resolution.
        path: PNG file.
        title: headline.
        objects: drawn on the image: ``bbox`` (left, top, width, height, in pixels) and ``level`` (``"p3"``), which
            gives the colour.

    Returns:
        The path.

    Raises:
        ValueError: no rows, or a map that is not ``C H W``.
    """
    _check(rows)
    columns = 1 + max(len(levels) for levels in rows.values())
    height, width = image.shape[:2]
    figure = new_figure(2.6 * columns, (2.6 * height / width + 0.45) * len(rows) + 0.3)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (name, levels) in zip(axes, rows.items(), strict=False):
        _show_image(line[0], image, name)
        _show_objects(line[0], objects)
        for axis, (level, feature) in zip(line[1:], levels.items(), strict=False):
            _show_level(axis, image, level, feature)
    if title:
        figure.suptitle(title, fontsize=11)
    return save_png(figure, path)


def _check(rows: Mapping[str, Mapping[str, Tensor]]) -> None:
    if not rows or not all(rows.values()):
        raise ValueError(f"rows={list(rows)} must hold at least one map each")
    for name, levels in rows.items():
        for level, feature in levels.items():
            if feature.dim() != 3:
                raise ValueError(f"rows[{name!r}][{level!r}] has shape {tuple(feature.shape)}, expected C H W")


def _show_image(axis: Any, image: np.ndarray, name: str) -> None:
    axis.imshow(image)
    axis.set_title(name, fontsize=10, fontweight="bold", loc="left")


def _show_objects(axis: Any, objects: Sequence[Mapping[str, Any]]) -> None:
    import matplotlib
    from matplotlib.patches import Rectangle

    palette = matplotlib.colormaps["Set1"]
    order = {level: index for index, level in enumerate(sorted({entry["level"] for entry in objects}))}
    for entry in objects:
        x, y, width, height = entry["bbox"]
        color = palette(order[entry["level"]])
        axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.4))
        box = {"facecolor": color, "alpha": 0.85, "edgecolor": "none", "pad": 0.8}
        axis.text(x, max(y - 2, 6), entry["level"], fontsize=6, color="white", bbox=box, clip_on=True)


def _show_level(axis: Any, image: np.ndarray, level: str, feature: Tensor) -> None:
    channels, rows, columns = feature.shape
    height, width = image.shape[:2]
    axis.imshow(image.mean(axis=2), cmap="gray", alpha=0.35)
    axis.imshow(energy(feature).cpu().numpy(), cmap="magma", alpha=0.8, extent=(0, width, height, 0), vmin=0, vmax=1)
    axis.set_title(f"{level}  {channels} x {rows} x {columns}", fontsize=9)


def named_levels(features: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """First image of each map ``B C H W``, by level name."""
    return {name: feature[0] for name, feature in zip(names, features, strict=True)}
