"""Detect on images, folders of images or videos with a detector of either toolbox; draws boxes and masks.

    python tools/predict.py CONFIG CHECKPOINT INPUT [INPUT ...] [--output work_dirs/predict] [--score 0.5]

CONFIG is a file of either toolbox, ``mmdet::NAME`` or ``detectron2::NAME``. Writes one PNG per image or frame, and
``predictions.json`` in COCO's results format with the file (and frame) of each detection. Class names are COCO's where
the detector has 80 classes; give ``--annotations`` for those of another set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..adapters.hosts import class_names, host_of
from ..files import write_atomically
from ..inference import read_image
from .common import user_errors

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Detect on images, folders or videos with either toolbox")
    parser.add_argument("config")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("inputs", nargs="+", type=Path, help="images, folders, videos")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/predict"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"), help="in pixels")
    parser.add_argument("--score", type=float, default=0.5, help="detections below are neither drawn nor written")
    parser.add_argument("--every", type=int, default=1, help="of a video, every Nth frame")
    parser.add_argument("--annotations", type=Path, help="COCO-format file, for the names of the classes")
    args = parser.parse_args()
    if args.every < 1:
        parser.error(f"--every {args.every} must be 1 or more")
    return args


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """The images and videos, folders searched.

    Raises:
        FileNotFoundError: a path that does not exist, or nothing to read at all.
    """
    files: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"input {str(path)!r} does not exist")
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [path for path in files if path.suffix.lower() in (*IMAGES, *VIDEOS)]
    if not found:
        raise FileNotFoundError(f"no images or videos in {[str(path) for path in inputs]}; known are {IMAGES + VIDEOS}")
    return found


def pictures(files: Sequence[Path], every: int) -> Iterator[tuple[Path, int | None, Any]]:
    """``(file, frame or None, H W 3)`` of each image, RGB, with a progress bar."""
    from tqdm import tqdm

    for file in tqdm(files, desc="files"):
        if file.suffix.lower() in VIDEOS:
            for number, frame in frames(file, every):
                yield file, number, frame
        else:
            yield file, None, read_image(file)


def frames(file: Path, every: int) -> Iterator[tuple[int, Any]]:
    """Every Nth frame of a video, with its number, RGB."""
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


def draw(image: Any, objects: Sequence[dict[str, Any]], names: dict[int, str], path: Path) -> None:
    """One picture, enlarged where the image is so small that labels would not be legible."""
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


def main() -> None:
    """Detect, draw, write."""
    args = parse_args()
    with user_errors():
        files = files_of(args.inputs)
        host = host_of(args.config)
        model = host.load(args.config, str(args.checkpoint))
        detector = host.Predictor(model, *args.size)
        names = dict(enumerate(class_names(args.config, model, args.annotations)))
        results: list[dict[str, Any]] = []
        for image_id, (file, frame, image) in enumerate(pictures(files, args.every)):
            found = detector(image).to_coco(image_id, list(names))
            objects = [entry for entry in found if entry["score"] >= args.score]
            results += [{**entry, "file": str(file), "frame": frame} for entry in objects]
            stem = file.stem if frame is None else f"{file.stem}_{frame:06d}"
            draw(image, objects, names, args.output / f"{image_id:05d}_{stem}.png")
        with write_atomically(args.output / "predictions.json") as temporary:
            temporary.write_text(json.dumps({"classes": names, "predictions": results}, indent=1))
        print(f"{len(results)} detections: {args.output}")
