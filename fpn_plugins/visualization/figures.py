"""Make matplotlib figures without pyplot: they need no display and do not affect the caller's figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import needed_for
from ..files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` x ``height`` inches whose axes are arranged without overlap."""
    with needed_for("pictures"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: float = 110) -> Path:
    """Write a figure atomically and return its path; ``ValueError`` for another suffix than ``.png``."""
    path = check_png(path)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path


def check_png(path: str | os.PathLike[str]) -> Path:
    """Return a path with the suffix ``.png``; ``ValueError`` for another suffix."""
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}; expected '.png'")
    return path


def draw_box(axis: Any, bbox: Sequence[float], color: Any, label: str) -> None:
    """Draw a labeled box, given as left, top, width and height in pixels."""
    with needed_for("pictures"):
        from matplotlib.patches import Rectangle

    x, y, width, height = bbox
    axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.3))
    background = {"facecolor": color, "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
    axis.text(x, max(y - 2, 6), label, fontsize=5.5, color="white", bbox=background, clip_on=True)
