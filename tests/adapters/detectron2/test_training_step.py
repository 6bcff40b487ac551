"""Two training iterations with Detectron2's FPN and with ours: same seed, data and weights give the same losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from detectron2_training import losses_of
from precision import assert_same_losses, assert_same_maps

pytestmark = pytest.mark.detectron2

CASES = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": "build_fpn_plugins_resnet_fpn_backbone",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml": "build_fpn_plugins_resnet_fpn_backbone",
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml": "build_fpn_plugins_retinanet_resnet_fpn_backbone",
}


def config(path: str) -> Any:
    """Detectron2's own config with a ResNet-18 of trainable norms in place of the ResNet-50, on the CPU."""
    from detectron2.model_zoo import get_config

    cfg = get_config(path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.RESNETS.NORM = "BN"  # random weights with frozen norms overflow within a few iterations
    return cfg


@pytest.mark.parametrize("path", CASES)
def test_same_losses_as_the_stock_neck(path: str) -> None:
    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers)

    cfg = config(path)
    wanted, weights = losses_of(cfg, None)
    cfg.MODEL.BACKBONE.NAME = CASES[path]
    got, _ = losses_of(cfg, weights)
    for ours, theirs in zip(got, wanted, strict=True):
        assert_same_losses(ours, theirs)
    assert got[0] != got[1]


def test_retinanet_trains_like_detectron2_and_with_level_weights() -> None:
    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    add_fpn_plugins_config(cfg)
    wanted, weights = losses_of(cfg, None)
    cfg.MODEL.META_ARCHITECTURE = "FPNPluginsRetinaNet"
    got, _ = losses_of(cfg, weights)
    assert got == wanted  # to the last bit
    cfg.MODEL.FPN_PLUGINS.LEVEL_WEIGHTS = [3.0, 1.0, 1.0, 0.5, 0.5]
    weighted, _ = losses_of(cfg, weights)
    assert wanted[0]["loss_cls"] < weighted[0]["loss_cls"] < 3 * wanted[0]["loss_cls"]  # P3 has most anchors
    assert math.isfinite(weighted[1]["loss_cls"]) and weighted[1] != wanted[1]


def test_official_pkl_loads_through_the_detectron2_checkpointer(tmp_path: Any) -> None:
    """A model-zoo file is a pickle of NumPy arrays; every key must arrive, without matching by guesswork."""
    import pickle

    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    import fpn_plugins.adapters.detectron2  # noqa: F401

    cfg = config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    stock = build_model(cfg).eval()
    arrays = {key: value.numpy() for key, value in stock.state_dict().items()}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2"}))
    cfg.MODEL.BACKBONE.NAME = CASES["COCO-Detection/retinanet_R_50_FPN_1x.yaml"]
    ours = build_model(cfg).eval()
    DetectionCheckpointer(ours).load(str(tmp_path / "model_final.pkl"))
    images = torch.randn(1, 3, 96, 64, dtype=torch.double)
    with torch.no_grad():
        wanted, got = stock.double().backbone(images), ours.double().backbone(images)
    assert_same_maps(got, wanted)


def test_environment_hook_adds_keys_and_builders() -> None:
    """What unmodified `train_net.py` relies on, in a fresh interpreter."""
    import os
    import subprocess
    import sys

    code = (
        "from detectron2.config import get_cfg\n"
        "from detectron2.modeling import BACKBONE_REGISTRY\n"
        "assert get_cfg().MODEL.FPN_PLUGINS.NECK.TYPE == 'FPN'\n"
        "assert 'build_fpn_plugins_backbone' in BACKBONE_REGISTRY\n"
    )
    environment = {**os.environ, "DETECTRON2_ENV_MODULE": "fpn_plugins.adapters.detectron2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    del environment["DETECTRON2_ENV_MODULE"]
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode != 0
