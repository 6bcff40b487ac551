"""Compute AP, PQ and the time per image of detectors on a COCO-format set, exported or not, side by side.

    python tools/evaluate.py CONFIG CHECKPOINT --root COCO_FOLDER
    python tools/evaluate.py detector.onnx --root COCO_FOLDER [--engine onnxruntime|openvino|torch]
    python tools/evaluate.py CONFIG CHECKPOINT detector.onnx detector.xml --root COCO_FOLDER

A detector is a config of either toolbox with its checkpoint, or a file of ``tools/export.py``. All get the same images,
read as each one's toolbox does. Of several, each is compared with the first: AP, share of detections that agree
within 0.01 px and 1e-4 in score, time per image. With ``--tta`` or ``--slice``, each stands beside itself with them. PQ
is computed of detectors with a semantic head, if the folder has panoptic annotations.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.detectors import load_detector
from ..analysis import COCO_METRICS, agreement
from ..analysis.evaluation import evaluate_detectors
from ..analysis.panoptic_quality import evaluate_panoptic
from ..data import CocoSplit, find_panoptic_split, find_split
from ..data.coco_folder import category_names, read_coco
from ..inference import Detections, ImagePredictor
from ..inference.engines import EnginePredictor, Metadata, is_exported, load_engine
from .common import COUNT, user_errors, write_json
from .detector_options import (
    add_detector_input,
    add_engine,
    add_views,
    check_engine,
    device_of,
    engine_of,
    silence_notes,
    with_reader,
    with_views,
)

if TYPE_CHECKING:
    import numpy as np


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compute AP, PQ and the time per image of detectors, side by side")
    parser.add_argument("detectors", nargs="+", metavar="DETECTOR", help="CONFIG CHECKPOINT, or an exported file")
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder")
    parser.add_argument("--split", default="val", choices=("train", "val"), help="split to evaluate (default val)")
    add_detector_input(parser)
    add_engine(parser)
    add_views(parser)
    parser.add_argument("--num-images", type=COUNT, help="evaluate the first N images only")
    parser.add_argument("--json", type=Path, help="write the results to this JSON file")
    return parser.parse_args(argv)


class Timed:
    """Predictor that records the time of every call.

    Args:
        predict: the predictor.
        clock: returns the time in seconds.
    """

    def __init__(self, predict: ImagePredictor, clock: Callable[[], float] = time.perf_counter) -> None:
        self.predict, self.clock, self.seconds = predict, clock, list[float]()
        self.reader, self.toolbox = predict.reader, predict.toolbox

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects."""
        start = self.clock()
        found = self.predict(image)
        self.seconds.append(self.clock() - start)
        return found

    @property
    def median(self) -> float:
        """Median of the seconds per image, without the first call, which prepares the engine."""
        return statistics.median(self.seconds[1:] or self.seconds)


def named_detectors(args: argparse.Namespace, ann_file: Path) -> dict[str, ImagePredictor]:
    """Load the detectors of the command line, by a short name.

    Raises:
        ValueError: a config without a checkpoint.
    """
    words, found = list(args.detectors), dict[str, ImagePredictor]()
    while words:
        word = words.pop(0)
        predict: ImagePredictor
        if is_exported(word):
            name, predict = Path(word).name, engine_of(word, args)
        elif not words or is_exported(words[0]):
            raise ValueError(f"config {word!r} has no checkpoint; give CONFIG CHECKPOINT, or an exported file")
        else:
            loaded = load_detector(word, words.pop(0), args.size, ann_file, device=device_of(args.device))
            name, predict = f"{Path(word.split('::')[-1]).stem} ({loaded.toolbox})", loaded.predict
        if isinstance(predict, EnginePredictor):
            check_classes(name, predict.metadata, ann_file)
        found[name if name not in found else f"{name} #{len(found) + 1}"] = predict
    return with_variants(found, args)


def with_variants(detectors: Mapping[str, ImagePredictor], args: argparse.Namespace) -> dict[str, ImagePredictor]:
    """Add each detector with the options of `add_views` after itself."""
    parts = [] if args.tta is None else ["TTA"]
    parts += [] if args.slice is None else [f"slices {args.slice}"]
    found = dict[str, ImagePredictor]()
    for name, predict in detectors.items():
        found[name] = predict
        if parts and predict.finds_objects:
            found[f"{name}, {' and '.join(parts)}"] = with_views(predict, args)
    return found


def check_classes(name: str, metadata: Metadata, ann_file: Path) -> None:
    """Compare the classes of an exported detector with the data's, which are matched by position.

    Other names are a warning on standard error.

    Raises:
        ValueError: another number of classes.
    """
    given, classes = category_names(read_coco(ann_file, named=True)), metadata.classes
    if len(given) != len(classes):
        raise ValueError(f"{name} has {len(classes)} classes, {str(ann_file)!r} {len(given)} categories")
    other = next((index for index, pair in enumerate(zip(classes, given, strict=True)) if pair[0] != pair[1]), None)
    if other is not None and classes != tuple(map(str, range(len(classes)))):
        print(
            f"warning: class {other} is {classes[other][:40]!r} in {name} and {given[other][:40]!r} in "
            f"{str(ann_file)!r}; classes are matched by position, so AP means nothing if the order differs",
            file=sys.stderr,
        )


def measure_files(files: Sequence[Path], split: CocoSplit) -> dict[str, Any]:
    """Evaluate exported files; results by name."""
    return measure_objects({path.name: with_reader(load_engine(path)) for path in files}, split)


def measure_objects(
    detectors: Mapping[str, ImagePredictor], split: CocoSplit, num_images: int | None = None
) -> dict[str, Any]:
    """Compute AP and times of detectors, and how far they agree with the first one; results by name."""
    report: dict[str, Any] = {name: {} for name in detectors}
    timed = {name: Timed(predict) for name, predict in detectors.items() if predict.finds_objects}
    if timed:
        scores, found = evaluate_detectors(timed, split, num_images)
        first = next(iter(timed))
        for name, clock in timed.items():
            agreed = agreement((number, found[first][number], found[name][number]) for number in found[first])
            report[name] |= {"scores": scores[name], "seconds": clock.median, "agree": agreed.share}
            report[name]["detections"] = sum(len(one.scores) for one in found[name].values())
    return report


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the detectors of the command line; results by name."""
    check_engine(args, args.detectors)
    split = find_split(args.root, args.split)
    detectors = named_detectors(args, split.ann_file)
    report = measure_objects(detectors, split, args.num_images)
    segmenters = {name: predict.panoptic for name, predict in detectors.items() if predict.is_panoptic}
    if segmenters and (args.root / "annotations" / f"panoptic_{args.split}2017.json").is_file():
        quality = evaluate_panoptic(segmenters, find_panoptic_split(args.root, args.split), args.num_images)
        for name in segmenters:
            report[name]["panoptic"] = quality[name]
    return report


def table(report: dict[str, Any]) -> str:
    """Lay out the results, AP and PQ x 100, a column per detector."""
    names = list(report)
    width = max(14, *(len(name) + 2 for name in names))
    lines = [f"{'x 100':<16}" + "".join(f"{name:>{width}}" for name in names)]
    kinds = dict.fromkeys(kind for entry in report.values() for kind in entry.get("scores", {}))
    for kind in kinds:
        for metric in COCO_METRICS:
            values = [entry.get("scores", {}).get(kind, {}).get(metric, -1) for entry in report.values()]
            lines += [_row(f"{kind} {metric}", values, width)] if max(values) >= 0 else []
    for metric in ("PQ", "PQ_things", "PQ_stuff"):
        values = [entry.get("panoptic", {}).get(metric, -1) for entry in report.values()]
        lines += [_row(metric, values, width)] if max(values) >= 0 else []
    measured = [entry for entry in report.values() if "seconds" in entry]
    if measured:
        base = measured[0]["seconds"]
        times = [entry.get("seconds") for entry in report.values()]
        lines.append(f"{'ms per image':<16}" + "".join(_cell(t and 1000 * t, width, ".0f") for t in times))
        lines.append(f"{'time / first':<16}" + "".join(_cell(t and t / base, width, ".2f") for t in times))
        shares = [entry.get("agree") for entry in report.values()]
        lines.append(f"{'agree, %':<16}" + "".join(_cell(s if s is None else 100 * s, width, ".2f") for s in shares))
    return "\n".join(lines)


def _row(label: str, values: Sequence[float], width: int) -> str:
    return f"{label:<16}" + "".join(_cell(None if v < 0 else 100 * v, width, ".2f") for v in values)


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, print the table and write the report."""
    args = parse_args(argv)
    with user_errors():
        silence_notes()
        report = measure(args)
        print(table(report))
        if args.json:
            print(f"wrote {write_json(report, args.json)}")
