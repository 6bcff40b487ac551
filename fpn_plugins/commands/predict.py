"""Detect objects in images, folders, globs or videos with a detector of either toolbox, and draw boxes and masks.

    python tools/predict.py CONFIG CHECKPOINT INPUT [INPUT ...] [--out work_dirs/predict] [--score 0.5]
    python tools/predict.py detector.onnx INPUT [INPUT ...] [--engine onnxruntime|openvino|torch]

CONFIG is a file of either toolbox, ``mmdet::NAME``, ``detectron2::NAME`` or ``fpn_plugins::HOST/NAME``, CHECKPOINT a
file, or ``fpn_plugins::NAME`` for weights of the model zoo. Image size and class names are those of the config and the
checkpoint; no data set is needed. A file of ``tools/export.py`` takes the place of both; no toolbox is needed then.

``--slice`` finds small objects on large images, slice by slice (SAHI); ``--tta`` merges views of several sizes, flipped
and not. Give both after the inputs.

Writes a PNG per image, an MP4 per video, ``predictions.json`` in COCO's results format, and ``images.json`` with the
images and categories in COCO's annotation format. Files that cannot be read, and images that an exported file does not
take, are named at the end, with exit code 1; the others are done.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.detectors import LoadedDetector
from ..data import to_picture
from ..data.coco_folder import read_coco
from ..data.json_values import is_id, is_whole
from ..files import shortened
from ..inference import is_video, read_pictures, video_info, write_video
from ..inference.engines import is_exported
from ..visualization import annotate_objects, draw_detections
from .common import COUNT, SHARE, make_folder, user_errors, write_json
from .detector_options import add_detector, add_engine, add_views, check_engine, detector_of, with_views
from .inputs import files_of, without_arrays
from .progress import Progress

if TYPE_CHECKING:
    import numpy as np

SLOWEST = 0.1  # frames per second of a video that is written; some codecs know no slower ones
LISTED = 10  # messages of files that are listed at the end


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Detect objects in images, folders or videos with either toolbox")
    exported = any(is_exported(word) for word in (sys.argv[1:] if argv is None else argv))
    add_detector(parser, "work_dirs/predict", exported)
    add_engine(parser)
    add_views(parser)
    parser.add_argument("inputs", nargs="+", help="images, folders (searched recursively), globs, videos")
    parser.add_argument("--draw-score", type=SHARE, help="draw detections from this score on (default: --score)")
    parser.add_argument("--every", type=COUNT, default=1, help="read every Nth frame of a video (default 1)")
    parser.add_argument(
        "--codec", type=codec, default="mp4v", help="codec of videos: mp4v (default), vp09 (for browsers, slower)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the JSON files alone")
    args = parser.parse_args(argv)
    if exported and not is_exported(args.config):
        parser.error(f"{args.config!r} is followed by an exported file, which needs no config; name the file first")
    return args


def codec(text: str) -> str:
    """Return a codec's name unchanged if it is four letters."""
    if len(text) != 4 or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} must be four letters, such as mp4v or vp09")
    return text


class _Refused(ValueError):
    """Image that the detector does not take."""


class Predictions:
    """Detections on files, collected and drawn.

    Args:
        detector: the detector.
        args: arguments of the command.
        progress: shows what is done.
    """

    def __init__(self, detector: LoadedDetector, args: argparse.Namespace, progress: Progress) -> None:
        self.detector, self.args, self.progress = detector, args, progress
        self.results: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.failures: list[str] = []
        listed = read_coco(args.annotations, named=True)["images"] if args.annotations else []
        self._known = {
            str(entry["file_name"]): entry["id"] for entry in listed if "file_name" in entry and is_id(entry.get("id"))
        }
        numbers = [int(number) for number in self._known.values() if is_whole(number)]
        self._next_ids = itertools.count(max(numbers, default=-1) + 1)

    def add(self, file: Path) -> None:
        """Detect on an image or a video and write its picture; a file that fails becomes one of ``failures``."""
        try:
            self._add(file)
        except _Refused as error:
            self.failures.append(str(error))

    def _add(self, file: Path) -> None:
        pictures = self._readable(file)
        first = next(pictures, None)
        if first is None:
            return
        if is_video(file):
            self._add_video(file, itertools.chain([first], pictures))
            return
        image_id, objects = self._find(file, *first)
        if not self.args.no_pictures:
            target = self._target(file, image_id, ".png")
            draw_detections(to_picture(first[1]), self._shown(objects), self.detector.names, target)

    def write(self) -> None:
        """Write both JSON files."""
        categories = [{"id": number, "name": name} for number, name in self.detector.names.items()]
        write_json({"images": self.images, "categories": categories}, self.args.out / "images.json")
        write_json(self.results, self.args.out / "predictions.json")

    def _readable(self, file: Path) -> Iterator[tuple[int | None, np.ndarray]]:
        try:
            if self.detector.predict.reader is None:
                yield from read_pictures(file, self.args.every, self.detector.toolbox)
            elif is_video(file):
                raise ValueError(f"video {str(file)!r}: the detector reads images of its own channels, not videos")
            else:
                yield None, self.detector.predict.read(file)
        except (ValueError, OSError) as error:  # of reading; those of the caller are not raised here
            self.failures.append(str(error))

    def _add_video(self, file: Path, pictures: Iterator[tuple[int | None, np.ndarray]]) -> None:
        info, start = video_info(file), next(self._next_ids)
        self._next_ids = itertools.count(start)
        self.progress.start_video(file.name, -(-info.frames // self.args.every))
        target, rate = self._target(file, start, ".mp4"), max(info.rate / self.args.every, SLOWEST)
        with nullcontext() if self.args.no_pictures else write_video(target, rate, self.args.codec) as video:
            for frame, image in pictures:
                _, objects = self._find(file, frame, image)
                if video is not None:
                    video.write(annotate_objects(image, self._shown(objects), self.detector.names, enlarge=False))

    def _target(self, file: Path, image_id: int | str, suffix: str) -> Path:
        """Return the file to draw into: its number, which is the image's id unless that is a text, and its name."""
        number = int(image_id) if is_whole(image_id) else len(self.images)
        return self.args.out / f"{number:05d}_{shortened(file.stem, 200)}{suffix}"

    def _find(self, file: Path, frame: int | None, image: np.ndarray) -> tuple[int | str, list[dict[str, Any]]]:
        """Detect, and collect the detections."""
        image_id = self._id_of(file) if frame is None else next(self._next_ids)
        try:
            objects = self.detector.find(image, self.args.score, image_id)
        except ValueError as error:
            raise _Refused(f"{str(file)!r}: {error}") from error
        source = {"file_name": str(file)} if frame is None else {"file_name": str(file), "frame": frame}
        names = self.detector.names
        self.results += [{**entry, "category_name": names[entry["category_id"]], **source} for entry in objects]
        self.images.append({"id": image_id, **source, "width": image.shape[1], "height": image.shape[0]})
        self.progress.advance()
        return image_id, objects

    def _id_of(self, file: Path) -> int | str:
        """Return an image's id in the annotation file, found by the end of its path, or a new one."""
        parts = file.resolve().parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((self._known.pop(end) for end in ends if end in self._known), None)
        return next(self._next_ids) if found is None else found

    def _shown(self, objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        lowest = self.args.score if self.args.draw_score is None else self.args.draw_score
        return [entry for entry in objects if entry["score"] >= lowest]


def failed(failures: Sequence[str], total: int) -> str:
    """Describe the files that failed, in one line if there is one; of many, the first ones are listed."""
    if len(failures) == 1:
        return f"1 of {total} files: {failures[0]}"
    more = [f"and {len(failures) - LISTED} more"] if len(failures) > LISTED else []
    return f"{len(failures)} of {total} files:\n  " + "\n  ".join([*failures[:LISTED], *more])


def main(argv: Sequence[str] | None = None) -> None:
    """Detect, draw and write."""
    args = parse_args(argv)
    with user_errors():
        files = files_of(args.inputs, args.out)
        make_folder(args.out)
        check_engine(args, [args.config])
        detector = detector_of(args)
        files = without_arrays(files, args.inputs) if detector.predict.reader is None else files
        detector = detector._replace(predict=with_views(detector.predict, args, args.score))
        begin = time.monotonic()
        with Progress(len(files)) as progress:
            predictions = Predictions(detector, args, progress)
            done = 0
            try:
                for file in files:
                    predictions.add(file)
                    progress.finish_file()
                    done += 1
            except BaseException:  # an error or the user ends the command
                if done:
                    predictions.write()
                raise
        predictions.write()
        seconds, number = time.monotonic() - begin, len(predictions.images)
        rate = f"{number} pictures in {seconds:.1f} s, {number / max(seconds, 1e-6):.1f} a second"
        print(f"{len(predictions.results)} detections, {rate}: {args.out}")
        if predictions.images and not predictions.results:
            print("no detections: lower --score, or the threshold of the config itself (score_thr, SCORE_THRESH_TEST)")
        if predictions.failures:
            raise ValueError(failed(predictions.failures, len(files)))
