"""Check the style of plots: series, colors, labels with units and directions, sizes, and texts that do not cross."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.text import Text

from fpn_plugins.visualization import figures

PAGE_PIXELS, MIN_PIXELS = 700, 9  # width of a page's text, and the smallest legible letters on it
DIRECTIONS = ("(lower is better)", "(higher is better)")


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Yield a list that receives every plot that is written inside the block."""
    found: list[Figure] = []
    save = figures.save_png
    with monkeypatch.context() as patch:
        patch.setattr(
            figures, "save_png", lambda figure, *more, **options: found.append(figure) or save(figure, *more, **options)
        )
        yield found


def faults(figure: Figure, directed: bool = True) -> list[str]:
    """List what a plot does against the style; ``directed``: whether its quantities have a better direction."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return [*_series(figure), *_labels(figure, directed), *_sizes(figure), *_crossings(figure, canvas)]


def _series(figure: Figure) -> Iterator[str]:
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    texts = [text.get_text() for legend in legends for text in legend.get_texts()]
    if len(texts) > 8:
        yield f"{len(texts)} series: {texts}"
    colors = [_color(handle) for legend in legends for handle in legend.legend_handles]
    if len(set(colors)) < len(colors):
        yield f"colors {colors} of series {texts} are not distinct"
    unlisted = {_color(line) for axis in figure.axes for line in axis.lines if line.get_label() in texts} - {*colors}
    if unlisted:
        yield f"colors {unlisted} are not in the legend"


def _color(handle: Any) -> str:
    color = handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
    return to_hex(to_rgba_array(color)[0])


def _labels(figure: Figure, directed: bool) -> Iterator[str]:
    for axis in figure.axes:
        shared = [a for a in figure.axes if a in axis.get_shared_y_axes().get_siblings(axis)]
        below = [a for a in figure.axes if a in axis.get_shared_x_axes().get_siblings(axis)]
        x, y = ([_label(a, name) for a in group] for name, group in (("x", [axis, *below]), ("y", [axis, *shared])))
        own = [text for text in (*x, *y) if text]
        if not own:
            yield f"axes {axis.get_title()!r} have no label"
        elif directed and not any(text.endswith(DIRECTIONS) for text in own):
            yield f"labels {own} of {axis.get_title()!r} do not say whether lower or higher is better"


def _label(axis: Axes, name: str) -> str:
    return getattr(axis, f"get_{name}label")()


def _texts(figure: Figure) -> list[Text]:
    """Visible texts of a figure, tick labels included."""
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and _on_screen(t)]


def _on_screen(text: Text) -> bool:
    """Whether matplotlib draws a text: tick labels beyond the limits of an axis are not."""
    for axis in text.figure.axes:
        for side, (low, high), place in (("x", axis.get_xlim(), 0), ("y", axis.get_ylim(), 1)):
            ticks = [*getattr(axis, f"get_{side}ticklabels")(which="both")]
            if text in ticks:
                drawn = [t.label1 for t in getattr(axis, f"{side}axis")._update_ticks()]
                return text in drawn and min(low, high) <= text.get_position()[place] <= max(low, high)
    return True


def _sizes(figure: Figure) -> Iterator[str]:
    pixels_per_point = PAGE_PIXELS / figure.get_figwidth() / 72
    for text in _texts(figure):
        if text.get_fontsize() * pixels_per_point < MIN_PIXELS:
            yield f"{text.get_text()!r} has {text.get_fontsize() * pixels_per_point:.1f} pixels at the page's width"


def _crossings(figure: Figure, canvas: FigureCanvasAgg) -> Iterator[str]:
    renderer = canvas.get_renderer()
    boxes = {text: text.get_window_extent(renderer) for text in _texts(figure)}
    for text, box in boxes.items():
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1:
            yield f"{text.get_text()!r} is cut off by the picture's border"
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 1 and high > 1:
            yield f"{one.get_text()!r} and {other.get_text()!r} cross"
