"""Evaluate one set of weights in both toolboxes, and say where they differ.

    python tools/compare_toolboxes.py --mmdet CONFIG CHECKPOINT --detectron2 CONFIG CHECKPOINT --root COCO_FOLDER \
        [--split val] [--size 800 1333] [--num-images N] [--output compare.json]

Make the second checkpoint from the first with ``tools/convert_checkpoint.py``. Both detectors get the same pixels, read
and resized once with pillow: the toolboxes' own readers interpolate differently (OpenCV, pillow), which moves AP and
says nothing about the weights. Prints AP of boxes and masks of each, the share of detections that
agree within 0.01 px and 1e-4 of score, and the images with the largest differences.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _detectors import build_detector, class_names, load_weights
from _toolbox import user_errors

from fpn_plugins.analysis import METRICS, agreement, evaluate_predictions
from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically
from fpn_plugins.inference import Detections, read_image

TOOLBOXES = ("mmdet", "detectron2")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="AP of the same weights in MMDetection and in Detectron2")
    for name in TOOLBOXES:
        parser.add_argument(f"--{name}", nargs=2, required=True, metavar=("CONFIG", "CHECKPOINT"))
    parser.add_argument("--root", type=Path, required=True, help="folder of a COCO-format set")
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"), help="in pixels")
    parser.add_argument("--num-images", type=int, help="only the first N")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/compare_toolboxes.json"))
    return parser.parse_args()


def predictor(toolbox: str, ann_file: Path, config: str, checkpoint: str, size: tuple[int, int]) -> Any:
    """A detector with its weights, as a function of an image; its classes must be those of the set."""
    model = build_detector(config)
    load_weights(model, checkpoint)
    class_names(config, model, ann_file)
    return importlib.import_module(f"fpn_plugins.adapters.{toolbox}.inference").Predictor(model, *size)


def images(ann_file: Path, image_dir: Path, number: int | None) -> Iterator[tuple[int, Any]]:
    """``(id, H W 3)`` of each image, with a progress bar."""
    from tqdm import tqdm

    entries = json.loads(ann_file.read_text(encoding="utf-8"))["images"][:number]
    for entry in tqdm(entries, desc="images"):
        yield entry["id"], read_image(image_dir / entry["file_name"])


def evaluate(ann_file: Path, results: list[dict[str, Any]], image_ids: set[int]) -> dict[str, dict[str, float]]:
    """AP of boxes and, where there are some, of masks, on some of the images."""
    kinds = ["bbox", "segm"] if any("segmentation" in entry for entry in results) else ["bbox"]
    with tempfile.TemporaryDirectory() as folder:
        truth, file = Path(folder) / "truth.json", Path(folder) / "results.json"
        truth.write_text(json.dumps(only(ann_file, image_ids)))
        file.write_text(json.dumps(results))
        return {kind: evaluate_predictions(truth, file, kind) for kind in kinds}


def only(ann_file: Path, image_ids: set[int]) -> dict[str, Any]:
    """The annotations of some images."""
    content = json.loads(ann_file.read_text(encoding="utf-8"))
    content["images"] = [entry for entry in content["images"] if entry["id"] in image_ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in image_ids]
    return content


def print_report(scores: dict[str, Any], agreed: Any) -> None:
    """Two columns and the differences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The same weights in both toolboxes (AP x 100, pycocotools)")
    for name in ("", *TOOLBOXES, "difference"):
        table.add_column(name, justify="left" if not name else "right")
    for kind in scores[TOOLBOXES[0]]:
        for metric in METRICS:
            one, other = (100 * scores[name][kind][metric] for name in TOOLBOXES)
            if one >= 0:
                table.add_row(f"{kind} {metric}", f"{one:.2f}", f"{other:.2f}", f"{other - one:+.2f}")
    Console(width=80).print(table)
    print(
        f"{100 * agreed.share:.2f} % of {agreed.total:.0f} detections agree; among those boxes differ by at most "
        f"{agreed.box_difference:.2g} px, scores by {agreed.score_difference:.2g}"
    )
    worst = sorted((agreed.unmatched or {}).items(), key=lambda entry: -entry[1])[:5]
    if worst:
        print("without a partner: " + ", ".join(f"{number} on image {image_id}" for image_id, number in worst))


def main() -> None:
    """Run both detectors over the images, and compare."""
    args = parse_args()
    with user_errors():
        split = find_split(args.root, args.split)
        detectors = {
            name: predictor(name, split.ann_file, *getattr(args, name), tuple(args.size)) for name in TOOLBOXES
        }
        categories = json.loads(split.ann_file.read_text(encoding="utf-8"))["categories"]
        category_ids = sorted(category["id"] for category in categories)
        found: dict[str, dict[int, Detections]] = {name: {} for name in TOOLBOXES}
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in TOOLBOXES}
        for image_id, image in images(split.ann_file, split.image_dir, args.num_images):
            for name, detector in detectors.items():
                one = detector(image)
                results[name] += one.to_coco(image_id, category_ids)
                found[name][image_id] = one._replace(masks=None)  # of a whole set they would fill the memory
        image_ids = set(found[TOOLBOXES[0]])
        scores = {name: evaluate(split.ann_file, entries, image_ids) for name, entries in results.items()}
        agreed = agreement((image_id, *(found[name][image_id] for name in TOOLBOXES)) for image_id in image_ids)
        print_report(scores, agreed)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(args.output) as temporary:
            temporary.write_text(
                json.dumps({"scores": scores, "agreement": {**vars(agreed), "share": agreed.share}}, indent=2)
            )
        print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
