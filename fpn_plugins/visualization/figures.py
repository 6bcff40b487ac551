"""Matplotlib figures without pyplot: no display is needed, and the caller's figures are not touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` x ``height`` inches whose axes are arranged without overlap."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 110) -> Path:
    """Write a figure, whole or not at all, and return its path.

    Raises:
        ValueError: another suffix than ``.png``.
        FileNotFoundError: the folder of ``path`` does not exist.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}; expected '.png'")
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path
