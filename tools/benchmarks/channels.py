"""Train the demo's Mask R-CNN on images of four channels, with the fourth and without it, in both toolboxes.

    python tools/benchmarks/channels.py --out work_dirs/channels [--iterations 400] [--only mmdet/colors ...]

The synthetic set of `tools/make_synthetic_coco.py --infrared` hides its objects in the colors and shows them in the
infrared. Configs are ``demo_mask_rcnn_4_channels``; the colors alone are the bands 0, 1, 2 of the same files. The
command can be interrupted and given again: trainings go on from their last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_report import measured, provenance, write_report

from fpn_plugins.analysis.coco_ap import evaluate_predictions
from fpn_plugins.commands.common import COUNT, user_errors, write_json
from fpn_plugins.data import find_split

ROOT = Path(__file__).resolve().parents[2]
STEM = "demo_mask_rcnn_4_channels"
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
TOOLBOXES = {"mmdet": "MMDetection", "detectron2": "Detectron2"}
WARMUP = 50  # iterations
CHECKPOINTS = 25  # iterations between two
INPUTS = ("colors", "colors and infrared")
RUNS = [f"{toolbox}/{images}" for toolbox in TOOLBOXES for images in INPUTS]


def spaced(values: list[float]) -> str:
    """Write a list as both toolboxes' command lines read it."""
    return f"[{','.join(map(str, values))}]"


def mmdet_command(colors: bool, iterations: int, folder: Path) -> list[str]:
    """Return the command that trains in MMDetection."""
    options = {
        **dict.fromkeys(("train_cfg.max_iters", "train_cfg.val_interval"), iterations),
        "default_hooks.checkpoint.interval": CHECKPOINTS,
        "default_hooks.checkpoint.max_keep_ckpts": 2,
        **dict.fromkeys(("param_scheduler.1.end", "param_scheduler.1.T_max"), iterations),
        "val_evaluator.outfile_prefix": folder / "predictions",
        "randomness.seed": 0,
    }
    if colors:
        options |= {"model.data_preprocessor.mean": spaced(MEAN), "model.data_preprocessor.std": spaced(STD)}
        options["model.backbone.backbone.in_chans"] = 3
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            step = f"{loader}.dataset.pipeline.0"
            options |= {f"{step}.bands": "[0,1,2]", f"{step}.in_chans": 3}
    config = f"configs/mmdet/{STEM}.py"
    return ["tools/train.py", config, "--resume", "--work-dir", str(folder), "--cfg-options", *_pairs(options)]


def detectron2_command(colors: bool, iterations: int, folder: Path) -> list[str]:
    """Return the command that trains in Detectron2."""
    options = {
        **dict.fromkeys(("train.max_iter", "train.eval_period"), iterations),
        "lr_multiplier.warmup_length": WARMUP / iterations,
        "train.checkpointer.period": CHECKPOINTS,
        "train.output_dir": folder,
        "train.seed": 0,
    }
    if colors:
        options |= {"model.pixel_mean": spaced(MEAN), "model.pixel_std": spaced(STD)}
        options["model.backbone.bottom_up.in_chans"] = 3
        for mapper in ("dataloader.train.mapper", "dataloader.test.mapper"):
            options |= {f"{mapper}.bands": "[0,1,2]", f"{mapper}.in_chans": 3}
    return ["tools/train_net.py", "--resume", "--config-file", f"configs/detectron2/{STEM}.py", *_pairs(options)]


def _pairs(options: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in options.items()]


def train(run: str, data: Path, iterations: int, folder: Path) -> dict[str, Any]:
    """Train and evaluate, unless that is done; return AP.

    Raises:
        ValueError: the training failed; shows the end of its log.
    """
    toolbox, images = run.split("/")
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    make = mmdet_command if toolbox == "mmdet" else detectron2_command
    command = [sys.executable, *make(images == "colors", iterations, folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("a", encoding="utf-8") as log:
        environment = {**os.environ, "FPN_PLUGINS_COCO": str(data)}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "".join((folder / "train.log").read_text(encoding="utf-8").splitlines(keepends=True)[-15:])
        raise ValueError(f"{command[1]} failed with code {done.returncode}:\n{tail}")
    found = "predictions.bbox.json" if toolbox == "mmdet" else "coco_instances_results.json"
    scores = evaluate_predictions(find_split(data, "val").ann_file, folder / found)
    row = {"toolbox": toolbox, "images": images, **scores}
    write_json(row, result)
    return row


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# With and without a fourth channel",
        "",
        f"{measured(report)}.",
        "",
        f"Mask R-CNN on MobileNetV2 (`{STEM}`, ImageNet weights), {report['iterations']} iterations of 2 images of "
        f"320 x 240 pixels, {report['num_train']} for training and {report['num_val']} for validation, one seed. The "
        "set is synthetic: its objects keep 6 % of their contrast in red, green and blue, and are plain in the "
        "infrared, so the difference shows that the fourth channel arrives, not what an infrared camera gains. "
        "AP of the boxes x 100.",
        "",
        "| toolbox | channels | AP | AP50 | AP_S | AP_M | AP_L |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        scores = " | ".join(f"{100 * row[name]:.1f}" for name in ("AP", "AP50", "AP_S", "AP_M", "AP_L"))
        lines.append(f"| {TOOLBOXES[row['toolbox']]} | {row['images']} | {scores} |")
    lines += ["", "[Other cameras](guides/cameras.md) says how to train on such images."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the set, train, and write both files."""
    sys.path.append(str(ROOT / "tools"))
    from synthetic.dataset import make_synthetic_coco

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/channels", help="folder of the trainings")
    parser.add_argument("--iterations", type=COUNT, default=400, help="of each training (default 400)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=RUNS, help="trainings to run (default: all)")
    parser.add_argument("--num-train", type=COUNT, default=400)
    parser.add_argument("--num-val", type=COUNT, default=100)
    args = parser.parse_args()
    with user_errors():
        data = args.work_dir.resolve() / "data"
        make_synthetic_coco(data, args.num_train, args.num_val, infrared=True, progress=False)
        sizes = {"iterations": args.iterations, "num_train": args.num_train, "num_val": args.num_val}
        folders = {run: args.work_dir.resolve() / run.replace(" ", "_") for run in args.only}
        rows = [train(run, data, args.iterations, folder) for run, folder in folders.items()]
        packages = ["torch", "mmdet", "detectron2", "fpn_plugins"]
        report = {**provenance(packages), **sizes, "rows": rows}
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
