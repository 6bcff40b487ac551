"""Show trainings while they run, as a live table on a terminal and as lines of text elsewhere, and their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from .training import NAMES, Training

COLUMNS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")
KINDS = {"bbox": "box", "segm": "mask"}
TITLE = "Mask R-CNN on the synthetic validation set (AP x 100)"


def say(console: Console, text: str) -> None:
    """Write a text as it is, without markup, colors and line breaks."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def live_table(runs: Sequence[Training], console: Console) -> Iterator[None]:
    """Keep a table of trainings, and of the results that are there, up to date on a terminal; elsewhere do nothing."""
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=lambda: Group(progress_table(runs), results_table(runs)), console=console):
        yield


def progress_table(runs: Sequence[Training]) -> Table:
    """Make a table of iteration, loss, rate and time left, one row per training."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("toolbox", "", "", "iteration", "loss", "it/s", "left"):
        table.add_column(name, justify="left" if name in ("toolbox", "") else "right", no_wrap=True)
    for run in runs:
        bar = ProgressBar(run.iterations, run.iteration, width=24)
        table.add_row(NAMES[run.toolbox], run.phase, bar, f"{run.iteration}/{run.iterations}", *_figures(run))
    return table


def results_table(runs: Sequence[Training]) -> Table | str:
    """Make a table of AP with two rows per finished training; empty before the first."""
    done = [(run, run.result) for run in runs if run.result is not None]
    if not done:
        return ""
    table = Table(title=TITLE)
    for name in ("toolbox", "", *COLUMNS, "minutes"):
        table.add_column(name, justify="left" if name in ("toolbox", "") else "right")
    for run, result in done:
        for kind, label in KINDS.items():
            values = [f"{100 * result[kind][column]:.1f}" for column in COLUMNS]
            first = (NAMES[run.toolbox], f"{result['seconds'] / 60:.1f}") if kind == "bbox" else ("", "")
            table.add_row(first[0], label, *values, first[1])
    return table


def describe(run: Training) -> str:
    """Describe the state of a training in one line."""
    if run.result is not None:
        scores = [f"{label} AP50 {100 * run.result[kind]['AP50']:.1f}" for kind, label in KINDS.items()]
        return f"{run.toolbox}: done in {run.result['seconds'] / 60:.1f} minutes, {', '.join(scores)}"
    if run.phase != "training":
        return f"{run.toolbox}: {run.phase}"
    loss, rate, left = _figures(run)
    return f"{run.toolbox}: iteration {run.iteration}/{run.iterations}, loss {loss}, {rate} it/s, {left} left"


def _figures(run: Training) -> tuple[str, str, str]:
    """Loss, iterations per second, and minutes and seconds left; empty before the first."""
    if run.loss is None or run.rate is None:
        return "", "", ""
    left = round(run.seconds_left or 0)
    return f"{run.loss:.2f}", f"{run.rate:.1f}", f"{left // 60}:{left % 60:02}"
