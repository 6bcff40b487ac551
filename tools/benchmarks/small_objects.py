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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_report import provenance, thread_count

from fpn_plugins.adapters.detectors import load_detector
from fpn_plugins.commands.common import COUNT, PIXELS, user_errors, write_json
from fpn_plugins.commands.detector_options import silence_notes
from fpn_plugins.commands.evaluate import measure_objects
from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.data.coco_folder import read_coco
from fpn_plugins.files import locked
from fpn_plugins.inference import AugmentedPredictor, Detections, ImagePredictor, ResizeRule
from fpn_plugins.inference.augmented import scaled_rule

BASE = "as trained"
# ways that need a detector of their own -> what the page says until there is one
TRAINED = {
    "P2": "a neck from stride 4 on, with anchors to match",
    "larger images": "training, too, at a larger size",
    "image pyramid": "`ImagePyramid`, one network on several sizes",
    "level weights": "losses weighted by the number of objects on each level",
}
METRICS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")


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


def scaled_truth(truth: Mapping[str, Any], rule: ResizeRule, image_dir: Path, folder: Path) -> CocoSplit:
    """Write annotations in pixels of the images resized by a rule, so that sizes are those that the detector sees."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    factors = {number: rule.size_of(*size)[0] / size[0] for number, size in sizes.items()}
    annotations = []
    for entry in truth["annotations"]:
        factor = factors[entry["image_id"]]
        changed = {"bbox": [side * factor for side in entry["bbox"]], "area": entry["area"] * factor**2}
        annotations.append({key: value for key, value in entry.items() if key != "segmentation"} | changed)
    path = folder / "truth.json"
    write_json({**truth, "annotations": annotations}, path)
    return CocoSplit(path, image_dir, ())


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
        if any(rule.size_of(image["height"], image["width"])[0] != image["height"] for image in images):
            split = scaled_truth(truth, rule, split.image_dir, Path(folder))
            scaled = {way: Scaled(predict, rule) for way, predict in found.items()}
        report = measure_objects(scaled, split, args.num_images)
        annotations = read_coco(split.ann_file)["annotations"]
    known = {image["id"] for image in images}
    base = report[BASE]["seconds"]
    small = [one for one in annotations if one["image_id"] in known and one["area"] < 32**2]
    return {
        "toolbox": detector.toolbox,
        "size": str(detector.predict.rule),
        "images": len(images),
        "small": len(small),
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


HEADER = """# Small objects: AP gained against time

Measured until {date} on {processor}, {threads}, with {versions}.

AP x 100 on validation pictures; small objects (AP_S) have less than 32 x 32 pixels at the detector's own size. Time is
the median per picture, relative to the detector as trained in the same run, and includes resizing and merging. The rows
{trained} are detectors of their own, trained for as many iterations as
the first by `tools/studies/recipes/recipe_training.py` (`--way`, or `--size`), and seeds scatter by a point between
them; the other rows share the first one's weights. The [guide](guides/small_objects.md) says how to use each way.
"""


def page(report: Mapping[str, Any]) -> str:
    """Build the page."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    trained = " and ".join([", ".join(list(TRAINED)[:-1]), list(TRAINED)[-1]])
    about = {"threads": thread_count(report["threads"]), "versions": versions, "trained": trained}
    parts = [HEADER.format(**{key: report[key] for key in ("date", "processor")}, **about)]
    missing = dict(TRAINED)
    for name, table in report["tables"].items():
        parts.append(f"\n## {name}\n\n{_described(table)}\n\n{_table(table)}\n\n{_summary(table)}\n")
        parts.append("".join(f"\n    {command}\n" for command in table["commands"]))
        for way in table["rows"]:
            missing.pop(way, None)
    if missing:
        listed = "; ".join(f"{way} ({text})" for way, text in missing.items())
        parts.append(f"\n## Not measured yet\n\nWays that need a training of their own: {listed}.\n")
    return "".join(parts)


def _described(table: Mapping[str, Any]) -> str:
    return (
        f"{table['toolbox']}, {table['images']} pictures with {table['small']} small objects, images resized to "
        f"{table['size']} unless stated."
    )


def _table(table: Mapping[str, Any]) -> str:
    rows = table["rows"]
    kinds = [kind for kind in ("bbox", "segm") if kind in next(iter(rows.values()))["scores"]]
    names = {"bbox": "", "segm": " masks"}
    heads = ["way", *(f"{metric}{names[kind]}" for kind in kinds for metric in METRICS), "time"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for way, row in rows.items():
        values = [row["scores"].get(kind, {}).get(metric, -1) for kind in kinds for metric in METRICS]
        cells = [way, *("-" if value < 0 else f"{100 * value:.1f}" for value in values), f"{row['time']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _summary(table: Mapping[str, Any]) -> str:
    """Say which way gains most, and which gains without a loss of AP."""
    rows = table["rows"]
    base = rows[BASE]
    gains = {way: _gain(row, base, "AP_S") for way, row in rows.items() if way != BASE}
    best = max(gains, key=lambda way: gains[way])
    losing = [way for way, row in rows.items() if way != BASE and _gain(row, base, "AP") < 0]
    text = f"Most for small objects: {best}, {gains[best]:+.1f} AP_S at {rows[best]['time']:.1f} times the time."
    return text + (f" Less AP over all sizes than the detector as trained: {'; '.join(losing)}." if losing else "")


def _gain(row: Mapping[str, Any], base: Mapping[str, Any], metric: str) -> float:
    return 100 * float(row["scores"]["bbox"][metric] - base["scores"]["bbox"][metric])


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
