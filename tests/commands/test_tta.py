"""Evaluation with test-time augmentation by the toolboxes' scripts: masks in mmdet, any detector in Detectron2."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.timm, pytest.mark.torchvision]


@pytest.mark.mmdet
def test_mmdet_merges_masks(tiny_coco: Path, tmp_path: Path) -> None:
    from fpn_plugins.adapters.hosts import build_detector
    from fpn_plugins.weights import write_checkpoint

    config = "configs/mmdet/demo_mask_rcnn.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
        write_checkpoint(build_detector(str(ROOT / config)).state_dict(), tmp_path / "demo.pth")
    options = ["--work-dir", tmp_path, "--tta", "--cfg-options", "test_dataloader.num_workers=0"]
    options += ["test_dataloader.persistent_workers=False", "model.test_cfg.rcnn.score_thr=0.0"]
    options += ["model.backbone.backbone.checkpoint=None"]
    command = [sys.executable, "tools/test.py", config, tmp_path / "demo.pth", *options]
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "coco/segm_mAP" in done.stdout and "MaskTTAModel" in done.stdout


def evaluate_d2(config: Path, options: list[str]) -> Any:
    """Results of ``train-d2 --eval-only``."""
    from fpn_plugins.adapters.detectron2.engine import make_job

    keys = {"eval_only": True, "resume": False, "opts": options, "num_gpus": 0}
    return make_job(argparse.Namespace(config_file=str(config), **keys)).run()


@pytest.fixture
def demo_folder(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from fpn_plugins.adapters.detectron2 import setup_environment

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    setup_environment()
    return tmp_path


def write_weights(config: Path, folder: Path) -> str:
    from fpn_plugins.adapters.hosts import build_detector
    from fpn_plugins.weights import write_checkpoint

    torch.manual_seed(0)
    return str(write_checkpoint(build_detector(str(config)).state_dict(), folder / "demo.pth", "model"))


@pytest.mark.detectron2
def test_a_yaml_config_evaluates_retinanet(demo_folder: Path) -> None:
    text = (ROOT / "configs/detectron2/demo_retinanet.yaml").read_text()
    config = demo_folder / "demo.yaml"
    config.write_text("\n".join(line for line in text.splitlines() if "checkpoint:" not in line))
    options = ["MODEL.WEIGHTS", write_weights(config, demo_folder), "OUTPUT_DIR", str(demo_folder)]
    options += ["DATALOADER.NUM_WORKERS", "0", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0", "MODEL.DEVICE", "cpu"]
    options += ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(120,160)", "TEST.AUG.MAX_SIZE", "320"]
    found = evaluate_d2(config, options)
    assert set(found) == {"bbox", "bbox_TTA"} and "APs" in found["bbox_TTA"]
    results = json.loads((demo_folder / "inference_TTA" / "coco_instances_results.json").read_text())
    assert results and max(entry["bbox"][0] + entry["bbox"][2] for entry in results) > 160  # of the original image


@pytest.mark.detectron2
@pytest.mark.parametrize("given", [["train.tta=True"], ["train.tta.min_sizes=[96]", "train.tta.flip=False"]])
def test_a_lazy_config_evaluates_masks(given: list[str], demo_folder: Path) -> None:
    config = ROOT / "configs/detectron2/demo_mask_rcnn.py"
    options = [f"train.init_checkpoint={write_weights(config, demo_folder)}", f"train.output_dir={demo_folder}"]
    options += [
        "dataloader.test.num_workers=0",
        "model.backbone.bottom_up.checkpoint=null",
        "model.roi_heads.box_predictor.test_score_thresh=0.0",
        "train.device=cpu",
    ]
    found = evaluate_d2(config, [*options, *given])
    assert set(found) == {"bbox", "segm", "bbox_TTA", "segm_TTA"}


@pytest.mark.detectron2
@pytest.mark.parametrize("wrong", [{"sizes": [1]}, 3, "flip"])
def test_wrong_settings_are_named(wrong: Any) -> None:
    from fpn_plugins.adapters.detectron2.view_evaluation import read_tta

    with pytest.raises(ValueError, match=r"train\.tta=.* must be True, or have the keys"):
        read_tta({"tta": wrong})
    assert read_tta({}) is None and read_tta({"tta": False}) is None and read_tta({"tta": True}) == {}
