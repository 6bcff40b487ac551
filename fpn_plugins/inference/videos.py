"""Read and write videos with OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..extras import needed_for
from ..files import suffix_of, write_atomically
from .pictures import read_image

if TYPE_CHECKING:
    import numpy as np

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
CODEC = "mp4v"
_DEFAULT_RATE = 25.0  # for files that do not state theirs


class VideoInfo(NamedTuple):
    """Properties that a video's header states.

    Attributes:
        frames: number of frames; 0 if the header does not state it.
        rate: frames per second.
    """

    frames: int
    rate: float


def is_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a file has the suffix of a video, see `VIDEOS`."""
    return suffix_of(path) in VIDEOS


@contextmanager
def _opencv(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Import OpenCV; inside the block, it does not print about files that it cannot open."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with needed_for(f"videos such as {os.fspath(path)!r}"):
        import cv2
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield cv2
    finally:
        cv2.setLogLevel(level)


def video_info(path: str | os.PathLike[str]) -> VideoInfo:
    """Read number and rate of a video's frames from its header.

    Raises:
        ImportError: OpenCV is not installed.
        FileNotFoundError: no such file.
        ValueError: OpenCV cannot open the video.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"video {os.fspath(path)!r} does not exist")
    with _opencv(path) as cv2:
        video = cv2.VideoCapture(os.fspath(path))
        if not video.isOpened():
            raise ValueError(f"video {os.fspath(path)!r} cannot be read: OpenCV finds no frames in it")
        frames, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        video.release()
    return VideoInfo(max(0, int(frames)), rate if 0 < rate < 1000 else _DEFAULT_RATE)


def read_pictures(
    path: str | os.PathLike[str], every: int = 1, toolbox: str | None = None
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Read an image, or frames of a video, as ``H W 3``, RGB, 0..255.

    Args:
        path: image or video; `VIDEOS` lists the suffixes of videos.
        every: read every Nth frame of a video.
        toolbox: see `read_image`.

    Yields:
        Frame number, counted from 0 (``None`` for an image), and the picture.

    Raises:
        ImportError: ``path`` is a video and OpenCV is not installed.
        ValueError: the image cannot be read; the video has no frames, or, after the last readable one, fewer than nine
            tenths of those that its header states.
    """
    if not is_video(path):
        yield None, read_image(path, toolbox)
        return
    number = 0
    with _opencv(path) as cv2:
        video = cv2.VideoCapture(os.fspath(path))
    try:
        while (read := video.read())[0]:
            if number % every == 0:
                yield number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            number += 1
        stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    if number == 0:
        raise ValueError(f"video {os.fspath(path)!r} cannot be read: OpenCV finds no frames in it")
    if number < 0.9 * stated:  # some formats state the number by duration, which is inexact
        raise ValueError(f"video {os.fspath(path)!r} is damaged: it ends after {number} of {stated} frames")


class VideoWriter:
    """Frames that are written to a video; `write_video` makes it.

    Args:
        path: file to write.
        rate: frames per second.
        codec: four letters that OpenCV knows.
    """

    def __init__(self, path: Path, rate: float, codec: str = CODEC) -> None:
        self.path, self.rate, self.codec = path, rate, codec
        self.frames = 0
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, image: np.ndarray) -> None:
        """Append a frame ``H W 3``, RGB, 0..255; an odd side repeats its last row or column, as codecs need even ones.

        Raises:
            ValueError: the codec does not work here, or the frame's size differs from the first one's.
        """
        with _opencv(self.path) as cv2:
            height, width = image.shape[:2]
            if self._writer is None:
                self._size = (width, height)
                even = (width + width % 2, height + height % 2)
                code = cv2.VideoWriter_fourcc(*self.codec)
                self._writer = cv2.VideoWriter(str(self.path), code, self.rate, even)
                if not self._writer.isOpened():
                    raise ValueError(
                        f"codec={self.codec!r} does not work with this OpenCV for {width} x {height} pixels at "
                        f"{self.rate:g} frames a second; use {CODEC!r} or 'vp09'"
                    )
            if (width, height) != self._size:
                raise ValueError(f"frame of {width} x {height} pixels in a video of {self._size[0]} x {self._size[1]}")
            frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            self._writer.write(frame)
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


@contextmanager
def write_video(path: str | os.PathLike[str], rate: float, codec: str = CODEC) -> Iterator[VideoWriter]:
    """Write a video that is either complete or absent.

    Args:
        path: ``.mp4`` file, in a folder that exists.
        rate: frames per second.
        codec: ``"mp4v"`` (MPEG-4, which players know but few browsers do), ``"vp09"`` (VP9, for browsers, slower), or
            another one that the installed OpenCV can write.

    Yields:
        `VideoWriter`; its ``write`` appends a frame.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: another suffix, a codec that does not work, or no frames.
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    if suffix_of(path) != ".mp4" or len(codec) != 4:
        raise ValueError(f"path={str(path)!r}, codec={codec!r}: expected an .mp4 file and a codec of four letters")
    with write_atomically(path) as temporary:
        writer = VideoWriter(temporary, rate, codec)
        try:
            yield writer
        finally:
            writer.close()
        if writer.frames == 0:
            raise ValueError(f"video {str(path)!r} has no frames; write at least one")
        try:
            written = video_info(temporary).frames
        except ValueError:
            written = 0
        if written != writer.frames:  # OpenCV does not report a failed write
            raise OSError(
                None, f"only {written} of {writer.frames} frames could be written; is the disk full?", str(path)
            )
