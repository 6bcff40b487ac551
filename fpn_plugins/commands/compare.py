"""Evaluate the same weights in both toolboxes and report where the detections differ.

    python tools/compare_toolboxes.py --mmdet CONFIG CHECKPOINT --detectron2 CONFIG CHECKPOINT --root COCO_FOLDER \
        [--split val] [--size SHORT LONG] [--num-images N] [--out compare.json]

Make the second checkpoint from the first with ``tools/convert_checkpoint.py``. Both detectors get the same pixels, read
and resized once with Pillow: the toolboxes' own readers interpolate differently (OpenCV, Pillow), which changes AP
independently of the weights. Without ``--size``, both configs have to resize images to the same size.

Prints box and mask AP in each toolbox, the share of detections that agree within 0.01 px and 1e-4 in score, and the
images with the most detections that do not agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..adapters.detectors import load_detector
from ..adapters.hosts import toolbox_of
from ..analysis import COCO_METRICS, Agreement, agreement
from ..analysis.evaluation import evaluate_detectors
from ..conversion.tables import TOOLBOXES
from ..data import find_split
from ..inference import ImagePredictor
from .common import COUNT, user_errors, write_json
from .detector_options import add_detector_input, device_of, silence_notes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare the AP of the same weights in MMDetection and Detectron2")
    for name in TOOLBOXES:
        parser.add_argument(
            f"--{name}", nargs=2, required=True, metavar=("CONFIG", "CHECKPOINT"), help=f"detector of {name}"
        )
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder")
    parser.add_argument("--split", default="val", choices=("train", "val"), help="split to evaluate (default val)")
    add_detector_input(parser)
    parser.add_argument("--num-images", type=COUNT, help="evaluate the first N images only")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/compare_toolboxes.json"), help="report to write")
    return parser.parse_args(argv)


def check_sizes(predictors: Mapping[str, ImagePredictor]) -> None:
    """Raise ``ValueError`` if two detectors resize images to different sizes."""
    rules = {name: predictor.rule for name, predictor in predictors.items()}
    if len(set(rules.values())) > 1:
        found = ", ".join(f"{name}: {rule}" for name, rule in rules.items())
        raise ValueError(f"the configs resize images differently ({found}); give --size SHORT LONG for both")


def print_comparison(scores: dict[str, Any], agreed: Agreement) -> None:
    """Print both toolboxes' AP (x 100), the share of matched detections, and the five worst images."""
    print(f"{'AP x 100':<12}" + "".join(f"{name:>12}" for name in (*TOOLBOXES, "difference")))
    for kind in scores[TOOLBOXES[0]]:
        for metric in COCO_METRICS:
            one, other = (100 * scores[name][kind][metric] for name in TOOLBOXES)
            if one >= 0:
                print(f"{kind + ' ' + metric:<12}{one:>12.2f}{other:>12.2f}{other - one:>+12.2f}")
    if not agreed.total:
        raise ValueError(
            "neither toolbox detects anything on these images, so nothing was compared; give trained weights, and "
            "--size of the images that they were trained on"
        )
    print(
        f"{100 * agreed.share:.2f} % of {agreed.total:.0f} detections agree; their boxes differ by at most "
        f"{agreed.box_difference:.2g} px, scores by {agreed.score_difference:.2g}"
    )
    worst = sorted(agreed.unmatched.items(), key=lambda entry: -entry[1])[:5]
    if worst:
        print("unmatched: " + ", ".join(f"{number} on image {image_id}" for image_id, number in worst))


def main(argv: Sequence[str] | None = None) -> None:
    """Run both detectors on the images, compare them and write the report."""
    args = parse_args(argv)
    with user_errors():
        silence_notes()
        split = find_split(args.root, args.split)
        detectors: dict[str, ImagePredictor] = {}
        for name in TOOLBOXES:
            config, checkpoint = getattr(args, name)
            if (found_toolbox := toolbox_of(config)) != name:
                raise ValueError(f"--{name} {config}: this is a config of {found_toolbox}")
            loaded = load_detector(config, checkpoint, args.size, split.ann_file, device=device_of(args.device))
            loaded.predict.rule, loaded.predict.toolbox = loaded.predict.rule.with_library("pillow"), None
            detectors[name] = loaded.predict
        check_sizes(detectors)
        scores, found = evaluate_detectors(detectors, split, args.num_images)
        first, second = (found[name] for name in TOOLBOXES)
        agreed = agreement((image_id, first[image_id], second[image_id]) for image_id in first)
        print_comparison(scores, agreed)
        report = {"scores": scores, "agreement": {**vars(agreed), "share": agreed.share}}
        print(f"wrote {write_json(report, args.out)}")
