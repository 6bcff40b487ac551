"""Make matplotlib figures without pyplot: they need no display and do not affect the caller's figures.

Plots have one style: the width of a page, at most eight series in colors that color-blind readers can tell apart, and
axes that name quantity, unit, and whether lower or higher is better.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..extras import needed_for
from ..files import suffix_of, write_atomically

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

# Okabe and Ito's colors (blue, vermilion, green, orange, pink, sky blue, black), and brown in place of their yellow
COLORS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#7a5230")
MUTED = "#8c8c8c"
DPI = 160
PAGE_WIDTH = 7.5  # inches; pages show it at about 700 pixels, so that 8 points are about 10 pixels
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.columnspacing": 1.5,
    "figure.titlesize": 10.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.markersize": 4.0,
    "lines.linewidth": 1.3,
}


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` x ``height`` inches whose axes are arranged without overlap."""
    with needed_for("pictures"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(text: str) -> str:
    """Return a text as matplotlib has to get it to draw it as it is, such as the name of a file with two ``$``."""
    return text.replace("$", r"\$")


@contextmanager
def plot(path: str | os.PathLike[str], height: float) -> Iterator[Figure]:
    """Yield an empty figure of the page's width and ``height`` inches in the style of all plots; write it at the end.

    Args:
        path: PNG file.
        height: in inches; `Figure.set_figheight` changes it.
    """
    with needed_for("plots"):
        from matplotlib import rc_context

    with rc_context(STYLE):
        figure = new_figure(PAGE_WIDTH, height)
        figure.set_dpi(DPI)
        yield figure
        save_png(figure, path, dpi=DPI)


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: float = 110) -> Path:
    """Write a figure atomically and return its path; ``ValueError`` for another suffix than ``.png``."""
    path = check_png(path)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path


def figure_pixels(figure: Figure, dpi: float = 110) -> np.ndarray:
    """Render a figure as a picture ``H W 3``, RGB, 0..255."""
    with needed_for("pictures"):
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def check_png(path: str | os.PathLike[str]) -> Path:
    """Return a path with the suffix ``.png``; ``ValueError`` for another suffix."""
    path = Path(path)
    if suffix_of(path) != ".png":
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}; expected '.png'")
    return path


def series_color(index: int) -> str:
    """Return the color of a plot's series.

    Raises:
        ValueError: more series than there are colors.
    """
    if not 0 <= index < len(COLORS):
        raise ValueError(f"index={index}: a plot shows at most {len(COLORS)} series; choose some, or use more plots")
    return COLORS[index]


def axis_label(quantity: str, unit: str = "", better: Literal["lower", "higher"] | None = None) -> str:
    """Compose the label of an axis, such as ``"time, ms"`` with ``"(lower is better)"`` on a line of its own."""
    label = f"{quantity}, {unit}" if unit else quantity
    return f"{label}\n({better} is better)" if better else label


def legend_below(figure: Figure, handles: Sequence[Any] | None = None) -> None:
    """Put one legend of all axes below them, in columns that fit the width of a page.

    Args:
        figure: the figure.
        handles: artists with labels (default: those of all axes).
    """
    if handles is None:
        handles = [handle for axis in figure.axes for handle in axis.get_legend_handles_labels()[0]]
    by_label = {str(handle.get_label()): handle for handle in handles}
    if by_label:
        columns = _legend_columns(list(by_label))
        figure.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=columns)


def _legend_columns(labels: Sequence[str]) -> int:
    """Return the largest number of columns with which a legend of these labels is at most as wide as a page."""
    with needed_for("plots"):
        from matplotlib.textpath import TextPath

    size = STYLE["legend.fontsize"]
    # with handles; letters are moved to whole pixels, which makes words up to 6 % wider
    entries = [1.06 * TextPath((0, 0), label, size=size).get_extents().width + 2.8 * size for label in labels]
    for rows in range(1, len(labels) + 1):
        columns = -(-len(labels) // rows)
        starts = [column * len(labels) // columns for column in range(columns + 1)]
        widths = [max(entries[start:end]) for start, end in zip(starts, starts[1:], strict=False)]
        if sum(widths) + STYLE["legend.columnspacing"] * size * (columns - 1) <= 72 * PAGE_WIDTH - size:
            return columns
    return 1


def draw_box(axis: Any, bbox: Sequence[float], color: Any, label: str) -> None:
    """Draw a labeled box, given as left, top, width and height in pixels."""
    with needed_for("pictures"):
        from matplotlib.patches import Rectangle

    x, y, width, height = bbox
    axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.3))
    background = {"facecolor": color, "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
    axis.text(x, max(y - 2, 6), label, fontsize=5.5, color="white", bbox=background, clip_on=True)
