"""Show how far a command is: a live bar with its rate on a terminal, or else a line now and then."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any

from ..extras import needed_for

_INTERVAL = 30  # seconds between lines where there is no terminal


class Progress:
    """Number of files and of a video's frames that are done, with a rate in pictures a second.

    Args:
        files: number of files.
    """

    def __init__(self, files: int) -> None:
        with needed_for("progress bars"):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

        console = Console(stderr=True)
        name, rate = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[rate]}"))
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), rate)
        self._bars: Any = Bars(*columns, console=console, disable=not console.is_terminal)
        self._files = self._bars.add_task("files", total=files, rate="")
        self._video: Any = None
        self._times: deque[float] = deque([time.monotonic()], maxlen=30)
        self._pictures, self._said = 0, time.monotonic()

    def __enter__(self) -> Progress:
        """Start the bars."""
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the bars."""
        self._bars.stop()

    @property
    def rate(self) -> float:
        """Return the rate of the last pictures, in pictures a second."""
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)

    def start_video(self, name: str, frames: int) -> None:
        """Add a bar for the frames of a video; 0 frames if their number is unknown."""
        self._video = self._bars.add_task(name, total=frames or None, rate="")

    def advance(self) -> None:
        """Count a picture."""
        self._pictures += 1
        self._times.append(time.monotonic())
        text = f"{self.rate:.1f} a second"
        self._bars.update(self._files, rate=text)
        if self._video is not None:
            self._bars.update(self._video, advance=1, rate=text)
        if self._bars.disable and self._times[-1] - self._said > _INTERVAL:
            self._said = self._times[-1]
            print(f"{self._pictures} pictures, {text}", flush=True)

    def finish_file(self) -> None:
        """Count a file."""
        self._bars.update(self._files, advance=1)
        if self._video is not None:
            self._bars.remove_task(self._video)
            self._video = None
