"""Detect on images, folders of images or videos with a detector of either toolbox; draw boxes and masks.

    python tools/predict.py CONFIG CHECKPOINT INPUT [INPUT ...] [--output work_dirs/predict] [--score 0.5]

CONFIG is a file of either toolbox, ``mmdet::NAME`` or ``detectron2::NAME``. Writes one PNG per image or frame, and
``predictions.json`` in COCO's results format with the file (and frame) of each detection. Class names are COCO's if
the detector has 80 classes; ``--annotations`` names those of another data set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_atomically
from ..inference import read_image
from .common import add_detector, load_detector, user_errors, write_json

if TYPE_CHECKING:
    import numpy as np

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Detect on images, folders or videos with either toolbox")
    add_detector(parser, "work_dirs/predict")
    parser.add_argument("inputs", nargs="+", type=Path, help="images, folders, videos")
    parser.add_argument("--every", type=int, default=1, help="read every Nth frame of a video (default 1)")
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f"--every {args.every} must be 1 or more")
    return args


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """List the images and videos among ``inputs``, folders searched recursively.

    Raises:
        FileNotFoundError: a path that does not exist, or no image and no video at all.
    """
    files: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"input {str(path)!r} does not exist")
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [path for path in files if path.suffix.lower() in (*IMAGES, *VIDEOS)]
    if not found:
        raise FileNotFoundError(
            f"no images or videos in {[str(path) for path in inputs]}; expected suffixes {IMAGES + VIDEOS}"
        )
    return found


def read_pictures(files: Sequence[Path], every: int) -> Iterator[tuple[Path, int | None, np.ndarray]]:
    """Read each image, and every Nth frame of each video, with a progress bar: file, frame or None, RGB ``H W 3``."""
    from tqdm import tqdm

    for file in tqdm(files, desc="files"):
        if file.suffix.lower() in VIDEOS:
            for number, frame in read_frames(file, every):
                yield file, number, frame
        else:
            yield file, None, read_image(file)


def read_frames(file: Path, every: int) -> Iterator[tuple[int, np.ndarray]]:
    """Read every Nth frame of a video: number and RGB ``H W 3``.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: OpenCV finds no frames in the file.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f"reading {str(file)!r} needs OpenCV: pip install opencv-python-headless") from error
    video = cv2.VideoCapture(str(file))
    number = 0
    while (read := video.read())[0]:
        if number % every == 0:
            yield number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        number += 1
    video.release()
    if number == 0:
        raise ValueError(f"cannot read {str(file)!r}: OpenCV finds no frames in it")


def draw(image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], path: Path) -> None:
    """Draw detections on an image; small images are enlarged so that labels are legible."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ..visualization import draw_objects

    height, width = image.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=max(100, 60000 // max(height, width)))
    FigureCanvasAgg(figure)
    draw_objects(figure.add_axes((0, 0, 1, 1)), image, objects, names, "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        figure.savefig(temporary)


def main(argv: Sequence[str] | None = None) -> None:
    """Detect, draw and write."""
    args = parse_args(argv)
    with user_errors():
        files = files_of(args.inputs)
        detector = load_detector(args.config, args.checkpoint, args.size, args.annotations)
        results: list[dict[str, Any]] = []
        for image_id, (file, frame, image) in enumerate(read_pictures(files, args.every)):
            objects = detector.find(image, args.score, image_id)
            results += [{**entry, "file": str(file), "frame": frame} for entry in objects]
            stem = file.stem if frame is None else f"{file.stem}_{frame:06d}"
            draw(image, objects, detector.names, args.output / f"{image_id:05d}_{stem}.png")
        write_json({"classes": detector.names, "predictions": results}, args.output / "predictions.json")
        print(f"{len(results)} detections: {args.output}")
