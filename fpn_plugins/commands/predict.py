"""Detect objects in images, folders or videos with a detector of either toolbox, and draw boxes and masks.

    python tools/predict.py CONFIG CHECKPOINT INPUT [INPUT ...] [--output work_dirs/predict] [--score 0.5]

CONFIG is a file of either toolbox, ``mmdet::NAME`` or ``detectron2::NAME``. Writes one PNG per image or frame, and
``predictions.json`` in COCO's results format with the file (and frame) of each detection. Class names are COCO's if
the detector has 80 classes; ``--annotations`` provides those of another data set.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..adapters.hosts import toolbox_of
from ..extras import needed_for
from ..inference import IMAGES, VIDEOS, read_pictures
from ..visualization import draw_detections
from .common import COUNT, add_detector, load_detector, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Detect objects in images, folders or videos with either toolbox")
    add_detector(parser, "work_dirs/predict")
    parser.add_argument("inputs", nargs="+", type=Path, help="images, folders, videos")
    parser.add_argument("--every", type=COUNT, default=1, help="read every Nth frame of a video (default 1)")
    return parser.parse_args(argv)


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """List images and videos, searching folders recursively; ``FileNotFoundError`` for a missing input, or no files."""
    files: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"input {str(path)!r} does not exist")
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [path for path in files if path.suffix.lower() in (*IMAGES, *VIDEOS)]
    if not found:
        raise FileNotFoundError(f"no images or videos in {list(map(str, inputs))}; expected {IMAGES + VIDEOS}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Detect, draw and write."""
    args = parse_args(argv)
    with user_errors():
        with needed_for("progress bars"):
            from tqdm import tqdm

        files = files_of(args.inputs)
        detector = load_detector(args.config, args.checkpoint, args.size, args.annotations)
        toolbox = toolbox_of(args.config)
        args.output.mkdir(parents=True, exist_ok=True)
        results: list[dict[str, Any]] = []
        image_ids = itertools.count()
        for file in tqdm(files, desc="files"):
            for frame, image in read_pictures(file, args.every, toolbox):
                image_id = next(image_ids)
                objects = detector.find(image, args.score, image_id)
                results += [{**entry, "file": str(file), "frame": frame} for entry in objects]
                stem = file.stem if frame is None else f"{file.stem}_{frame:06d}"
                draw_detections(image, objects, detector.names, args.output / f"{image_id:05d}_{stem}.png")
        write_json({"classes": detector.names, "predictions": results}, args.output / "predictions.json")
        print(f"{len(results)} detections: {args.output}")
