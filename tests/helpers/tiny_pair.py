"""Detectors of both toolboxes that find something in a tenth of a second, with weights that name their classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_detector import write_config

from fpn_plugins.analysis import spread_predictions
from fpn_plugins.weights import write_checkpoint

CLASSES = ("disk", "square", "star")
PIPELINE = """
model["bbox_head"]["num_classes"] = 3
model["test_cfg"] = dict(nms_pre=100, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20)
test_dataloader = dict(
    dataset=dict(
        type="mmdet.CocoDataset",
        metainfo=dict(classes=("a", "b", "c")),
        pipeline=[
            dict(type="mmdet.LoadImageFromFile"),
            dict(type="mmdet.Resize", scale=(160, 96), keep_ratio=True),
            dict(type="mmdet.LoadAnnotations", with_bbox=True),
            dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor")),
        ],
    )
)
"""
YAML = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  DEVICE: cpu
  BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res3, res4, res5]}
  FPN: {IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 8}
  RETINANET: {NUM_CLASSES: 3, NUM_CONVS: 1, SCORE_THRESH_TEST: 0.0}
TEST: {DETECTIONS_PER_IMAGE: 20}
INPUT: {MIN_SIZE_TEST: 96, MAX_SIZE_TEST: 160}
DATASETS: {TEST: [nowhere_val]}
VERSION: 2
"""


def write_pair(folder: Path, toolbox: str, classes: tuple[str, ...] = CLASSES) -> tuple[str, str]:
    """Write config and weights of one toolbox's detector; return their paths."""
    from fpn_plugins.adapters.hosts import build_detector, host_of

    config = folder / ("tiny.py" if toolbox == "mmdet" else "tiny.yaml")
    if toolbox == "mmdet":
        write_config(config, PIPELINE)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(YAML)
    model: Any = build_detector(str(config))
    image = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    predictor = host_of(str(config)).Predictor(model, 96, 160)
    spread_predictions(model, lambda: predictor(image))
    container = "state_dict" if toolbox == "mmdet" else "model"
    return str(config), str(write_checkpoint(model.state_dict(), folder / "tiny.pth", container, classes))


def write_set(root: Path) -> None:
    """Write a COCO-format folder with three images of noise, one object on each."""
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    images, objects = [], []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (120, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 200, "height": 120})
        box = {"bbox": [10, 10, 50, 60], "area": 3000, "iscrowd": 0, "category_id": 1 + number}
        objects.append({"id": number + 1, "image_id": number, **box})
    categories = [{"id": 1 + index, "name": name} for index, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": objects, "categories": categories}
    for split in ("train", "val"):
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
