"""Tiny trainings of both toolboxes, for `resume.py`: configs, command lines and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ITERATIONS, PERIOD = 12, 3

MMDET = f"""_base_ = ["{CONFIGS}/mmdet/demo_retinanet.py"]
backbone = dict(name="resnet10t", checkpoint=None, frozen_stages=-1, norm_eval=False, drop_path_rate=0.3)
model = dict(
    backbone=dict(backbone=backbone, neck=dict(out_channels=16)),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=[(96, 72), (64, 48)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = val_cfg = val_evaluator = None
custom_hooks = [dict(type="EMAHook", momentum=0.1)]
default_hooks = dict(checkpoint=dict(interval={PERIOD}, published_keys=None), logger=dict(interval=1))
randomness = dict(seed=1)
"""
MMDET_ITERATIONS = f"""{MMDET}
train_cfg = dict(max_iters={ITERATIONS}, val_interval={ITERATIONS})
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end={ITERATIONS})]
"""
MMDET_EPOCHS = f"""{MMDET}
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs={ITERATIONS // 4}, val_interval=100)
train_dataloader["sampler"] = dict(_delete_=True, type="DefaultSampler", shuffle=True)
train_dataloader["batch_sampler"] = dict(_delete_=True, type="AspectRatioBatchSampler")
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end={ITERATIONS})]
"""
DETECTRON2 = f"""
INPUT: {{MIN_SIZE_TRAIN: [48, 56, 64, 72], MAX_SIZE_TRAIN: 96}}
SOLVER: {{IMS_PER_BATCH: 2, WARMUP_ITERS: 4, STEPS: [8], MAX_ITER: {ITERATIONS}, CHECKPOINT_PERIOD: {PERIOD}}}
TEST: {{EVAL_PERIOD: 0}}
DATASETS: {{TEST: []}}
SEED: 1
"""
DETECTRON2_ARGS = {
    "name: mobilenetv2_100": "name: resnet10t\n        drop_path_rate: 0.3",
    "frozen_stages: 1": "frozen_stages: -1",
    "norm_eval: true": "norm_eval: false",
    "out_channels: 64": "out_channels: 16",
    "NUM_CONVS: 2": "NUM_CONVS: 1",
}


class Case(NamedTuple):
    """Training that is killed and resumed.

    Attributes:
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        final: name of its last checkpoint.
        write: writes the config into a folder, and returns its path.
        arguments: returns the arguments of the command for a config and an output folder.
    """

    toolbox: str
    final: str
    write: Callable[[Path], Path]
    arguments: Callable[[Path, Path], list[str]]


def _mmdet(text: str) -> Case:
    def write(folder: Path) -> Path:
        path = folder / "config.py"
        path.write_text(text)
        return path

    def arguments(config: Path, output: Path) -> list[str]:
        return [str(config), "--work-dir", str(output), "--resume"]

    return Case("mmdet", f"iter_{ITERATIONS}.pth", write, arguments)


def _write_yaml(folder: Path) -> Path:
    base = (CONFIGS / "detectron2/demo_retinanet.yaml").read_text()
    for old, new in DETECTRON2_ARGS.items():
        base = base.replace(old, new)
    lines = [line for line in base.splitlines() if "checkpoint:" not in line]
    (folder / "base.yaml").write_text("\n".join(lines))
    path = folder / "config.yaml"
    path.write_text("_BASE_: base.yaml" + DETECTRON2)
    return path


def _detectron2_arguments(config: Path, output: Path) -> list[str]:
    return ["--config-file", str(config), "--resume", "OUTPUT_DIR", str(output)]


CASES = {
    "mmdet": _mmdet(MMDET_ITERATIONS),
    "mmdet_epochs": _mmdet(MMDET_EPOCHS),
    "detectron2": Case("detectron2", "model_final.pth", _write_yaml, _detectron2_arguments),
}


def imports(toolbox: str) -> None:
    """Import a toolbox, so that processes forked from this one need not."""
    if toolbox == "mmdet":
        import mmdet.apis
        import mmdet.utils  # noqa: F401

        import fpn_plugins.adapters.mmdet  # noqa: F401
    else:
        import detectron2.engine  # noqa: F401

        import fpn_plugins.adapters.detectron2.engine  # noqa: F401


def train(toolbox: str, arguments: Sequence[str]) -> None:
    """Run this package's command."""
    if toolbox == "mmdet":
        from fpn_plugins.commands.train import main
    else:
        from fpn_plugins.commands.train_d2 import main
    main(arguments)
