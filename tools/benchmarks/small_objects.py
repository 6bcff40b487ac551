"""Measure ways to find small objects: AP by size of objects, and time, of larger images, slices, TTA and networks.

    python tools/benchmarks/small_objects.py CONFIG CHECKPOINT --root data/bccd --name "BCCD, RetinaNet" \
        --out tools/benchmarks/data/small_objects.json
    python tools/benchmarks/small_objects.py CONFIG CHECKPOINT --root data/bccd --name "BCCD, RetinaNet" \
        --trained P2 P2_CONFIG P2_CHECKPOINT --out tools/benchmarks/data/small_objects.json

The first command runs one detector in every way that needs no training: at its own size, at larger ones, with flipped
views, with views of several sizes, and on slices. The second compares it with detectors that were trained in another
way, each at the size of its own config. All get the same pictures, one after the other on one thread. Rows are added to
the file's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_report import provenance
from small_objects_page import BASE, LEAST_SMALL, TRAINED, page

from fpn_plugins.adapters.detectors import load_detector
from fpn_plugins.commands.common import COUNT, PIXELS, user_errors, write_json
from fpn_plugins.commands.detector_options import silence_notes
from fpn_plugins.commands.evaluate import measure_objects
from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.data.coco_folder import read_coco
from fpn_plugins.files import locked
from fpn_plugins.inference import AugmentedPredictor, Detections, ImagePredictor, ResizeRule
from fpn_plugins.inference.augmented import scaled_rule


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure ways to find small objects: AP by size, and time")
    parser.add_argument("config", help="config of either toolbox")
    parser.add_argument("checkpoint", help="weights of the detector")
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder; its validation split is used")
    parser.add_argument("--name", required=True, help="title of the table: the data and the detector")
    trained = f"a detector that was trained in another way ({', '.join(TRAINED)}); can be given again"
    metavar = ("WAY", "CONFIG", "CHECKPOINT")
    parser.add_argument("--trained", nargs=3, action="append", default=[], metavar=metavar, help=trained)
    parser.add_argument("--slice", type=PIXELS, help="side of slices, in pixels (default: half of the longer side)")
    parser.add_argument("--num-images", type=COUNT, help="evaluate the first N images only")
    parser.add_argument("--threads", type=COUNT, default=1, help="number of threads (default 1)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to which rows are added")
    return parser.parse_args()


def ways(predict: ImagePredictor, slice_size: int) -> dict[str, ImagePredictor]:
    """Make the ways that need no training from a detector."""
    from fpn_plugins.adapters.sahi import SlicedPredictor

    short = predict.rule.short
    if short is None:
        raise ValueError("the config's test pipeline keeps the size of images or stretches them; use one that resizes")
    larger = {factor: round(short * factor) for factor in (1.5, 2.0)}
    found = {BASE: predict}
    for factor, side in larger.items():
        found[f"images x {factor:g}"] = type(predict)(predict.model, rule=scaled_rule(predict.rule, side))
    sizes = (short, larger[1.5])
    return found | {
        "TTA: flip": AugmentedPredictor(predict),
        "TTA: x 1 and x 1.5": AugmentedPredictor(predict, sizes, flip=False),
        "TTA: x 1 and x 1.5, flip": AugmentedPredictor(predict, sizes),
        f"slices of {slice_size} px": SlicedPredictor(predict, slice_size),
    }


class Scaled:
    """Predictor whose boxes are in pixels of the image resized by a rule, and without masks.

    Args:
        predict: the predictor.
        rule: the rule.
    """

    finds_objects = True

    def __init__(self, predict: ImagePredictor, rule: ResizeRule) -> None:
        self.predict, self.rule = predict, rule
        self.reader, self.toolbox = predict.reader, predict.toolbox

    def __call__(self, image: Any) -> Detections:
        """Detect objects."""
        found = self.predict(image)
        return found._replace(boxes=found.boxes * (self.rule.size_of(*image.shape[:2])[0] / image.shape[0]), masks=None)


def scaled_truth(truth: Mapping[str, Any], rule: ResizeRule) -> dict[str, Any]:
    """Return annotations in pixels of the images resized by a rule, so that sizes are those that the detector sees."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    factors = {number: rule.size_of(*size)[0] / size[0] for number, size in sizes.items()}
    annotations = []
    for entry in truth["annotations"]:
        factor = factors[entry["image_id"]]
        changed = {"bbox": [side * factor for side in entry["bbox"]], "area": entry["area"] * factor**2}
        annotations.append({key: value for key, value in entry.items() if key != "segmentation"} | changed)
    return {**truth, "annotations": annotations}


def without_rare(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return annotations whose small objects are ignored in classes with few of them.

    AP_S is the mean over classes: of two classes, one with a single small object, half of it would be this object's.
    """
    numbers = Counter(entry["category_id"] for entry in truth["annotations"] if is_small(entry))
    rare = {category for category, number in numbers.items() if number < LEAST_SMALL}
    annotations = [
        {**entry, "iscrowd": 1} if is_small(entry) and entry["category_id"] in rare else entry
        for entry in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


def is_small(entry: Mapping[str, Any]) -> bool:
    """Return whether an object counts for AP_S."""
    return entry["area"] < 32**2 and not entry.get("iscrowd", 0)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the detector of the command line; return a table with its rows."""
    split = find_split(args.root, "val")
    truth = read_coco(split.ann_file)
    images = truth["images"][: args.num_images]
    detector = load_detector(args.config, args.checkpoint, annotations=split.ann_file)
    if args.trained:
        trained = {way: load_detector(*files, annotations=split.ann_file) for way, *files in args.trained}
        found = {BASE: detector.predict, **{way: one.predict for way, one in trained.items()}}
    else:
        sides = sorted(max(image["width"], image["height"]) for image in images)
        found = ways(detector.predict, args.slice or sides[len(sides) // 2] // 2)
    rule = detector.predict.rule
    with tempfile.TemporaryDirectory() as folder:
        scaled: Mapping[str, Any] = found
        known = {image["id"] for image in images}
        annotations = [entry for entry in truth["annotations"] if entry["image_id"] in known]
        truth = {**truth, "images": images, "annotations": annotations}
        if any(rule.size_of(image["height"], image["width"])[0] != image["height"] for image in images):
            truth = scaled_truth(truth, rule)
            scaled = {way: Scaled(predict, rule) for way, predict in found.items()}
        truth = without_rare(truth)
        write_json(truth, Path(folder) / "truth.json")
        report = measure_objects(scaled, CocoSplit(Path(folder) / "truth.json", split.image_dir, ()))
    base = report[BASE]["seconds"]
    return {
        "toolbox": detector.toolbox,
        "size": str(detector.predict.rule),
        "images": len(images),
        "small": sum(map(is_small, truth["annotations"])),
        "rows": {
            way: {"scores": entry["scores"], "time": entry["seconds"] / base, "size": str(found[way].rule)}
            for way, entry in report.items()
        },
    }


def add_table(path: Path, name: str, table: dict[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Add the rows of a table to the file; return its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"tables": {}}
        earlier = report["tables"].get(name, {})
        table = {**table, "rows": {**earlier.get("rows", {}), **table["rows"]}}
        table["commands"] = list(dict.fromkeys([*earlier.get("commands", []), about["command"]]))
        report = {**about, "tables": {**report["tables"], name: table}}
        write_json(report, path)
    return report


def main() -> None:
    """Measure, print, and write."""
    args = parse_args()
    silence_notes()
    torch.set_num_threads(args.threads)
    with user_errors():
        table = measure(args)
        print(page(add_table(args.out, args.name, table, provenance(("torch", "sahi", "fpn_plugins")))))


if __name__ == "__main__":
    main()
