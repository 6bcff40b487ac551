"""Draw the maps of a backbone and its neck in one labeled picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..extras import needed_for
from .figures import draw_box, new_figure, plain, save_png

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


def energy(feature: Tensor) -> Tensor:
    """Average the absolute activations of ``C H W`` over the channels and scale them to 0..1.

    The result shows where a level responds, but not to what. A map that is constant up to rounding becomes 0.
    """
    strength = feature.detach().float().abs().mean(dim=0)
    low, high = strength.min(), torch.quantile(strength.flatten(), 0.995)
    return ((strength - low) / torch.maximum(high - low, 1e-3 * high).clamp(min=1e-12)).clamp(0, 1)


def named_levels(features: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Select the first image of each map ``B C H W``, by level name."""
    return {name: feature[0] for name, feature in zip(names, features, strict=True)}


def draw_pyramid(
    image: np.ndarray,
    rows: Mapping[str, Mapping[str, Tensor]],
    path: str | os.PathLike[str],
    title: str = "",
    objects: Sequence[Mapping[str, Any]] = (),
    covered_size: Sequence[float] | None = None,
) -> Path:
    """Draw every level of every row over a dimmed copy of the image, see `pyramid_figure`, to the PNG ``path``."""
    return save_png(pyramid_figure(image, rows, title, objects, covered_size), path)


def pyramid_figure(
    image: np.ndarray,
    rows: Mapping[str, Mapping[str, Tensor]],
    title: str = "",
    objects: Sequence[Mapping[str, Any]] = (),
    covered_size: Sequence[float] | None = None,
) -> Figure:
    """Draw every level of every row over a dimmed copy of the image.

    Args:
        image: ``H W 3``, RGB, 0..255.
        rows: row title (``"backbone"``, ``"neck"``) -> level name (``"c2"``) -> map ``C H W``, high to low resolution.
        title: headline.
        objects: objects to draw on the image: ``bbox`` (left, top, width, height, in pixels) and ``level`` (``"p3"``),
            which selects the color.
        covered_size: height and width that the maps cover, in pixels of the image: more than the image if the network's
            input was padded at the right and at the bottom; ``None`` is the image.

    Raises:
        ValueError: no rows, or a map that is not ``C H W``.
    """
    if not rows or not all(rows.values()):
        raise ValueError(f"rows={list(rows)} must hold at least one map each")
    maps = {f"{name} {level}": feature for name, levels in rows.items() for level, feature in levels.items()}
    wrong = [f"{name} {tuple(feature.shape)}" for name, feature in maps.items() if feature.dim() != 3]
    if wrong:
        raise ValueError(f"rows hold {', '.join(wrong)}, expected C H W")
    columns = 1 + max(len(levels) for levels in rows.values())
    height, width = image.shape[:2]
    figure = new_figure(2.6 * columns, (2.6 * height / width + 0.45) * len(rows) + 0.3)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (name, levels) in zip(axes, rows.items(), strict=True):
        line[0].imshow(image)
        line[0].set_title(name, fontsize=10, fontweight="bold", loc="left")
        _draw_objects(line[0], objects)
        for axis, (level, feature) in zip(line[1:], levels.items(), strict=False):
            _draw_level(axis, image, level, feature, covered_size or image.shape[:2])
    if title:
        figure.suptitle(plain(title), fontsize=11)
    return figure


def _draw_objects(axis: Any, objects: Sequence[Mapping[str, Any]]) -> None:
    with needed_for("pictures"):
        import matplotlib

    palette = matplotlib.colormaps["Set1"]
    order = {level: index for index, level in enumerate(sorted({entry["level"] for entry in objects}))}
    for entry in objects:
        draw_box(axis, entry["bbox"], palette(order[entry["level"]]), entry["level"])


def _draw_level(axis: Any, image: np.ndarray, level: str, feature: Tensor, covered: Sequence[float]) -> None:
    channels, rows, columns = feature.shape
    height, width = image.shape[:2]
    axis.imshow(image.mean(axis=2), cmap="gray", alpha=0.35)
    extent = (-0.5, covered[1] - 0.5, covered[0] - 0.5, -0.5)
    axis.imshow(energy(feature).cpu().numpy(), cmap="magma", alpha=0.8, extent=extent, vmin=0, vmax=1)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set_title(f"{level}  {channels} x {rows} x {columns}", fontsize=9)
