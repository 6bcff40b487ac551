"""Two training iterations with Detectron2's FPN and with ours: same seed, data and weights give the same losses."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
import torch

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


def batch() -> list[dict[str, Any]]:
    """Two seeded pictures of odd sizes with boxes and polygons."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    samples = []
    for height, width in ((97, 129), (128, 101)):
        boxes = torch.rand(4, 4) * 40
        boxes[:, 2:] += boxes[:, :2] + 20
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(0, 80, (4,))
        corners = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()]
        instances.gt_masks = PolygonMasks(corners)
        image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
        samples.append({"image": image, "instances": instances, "height": height, "width": width})
    return samples


def seed(number: int) -> None:
    """Detectron2 draws from all three generators."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def losses_of(cfg: Any, weights: dict[str, Any] | None) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Losses of two SGD iterations, and the weights before them."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    seed(0)
    model = build_model(cfg).train()
    if weights is not None:
        model.load_state_dict(weights)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    history = []
    with EventStorage():
        for number in (1, 2):
            seed(number)
            losses = model(batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({name: float(value) for name, value in losses.items()})
    return history, before


@pytest.mark.parametrize("path", CASES)
def test_same_losses_as_the_stock_neck(path: str) -> None:
    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers)

    cfg = config(path)
    wanted, weights = losses_of(cfg, None)
    cfg.MODEL.BACKBONE.NAME = CASES[path]
    got, _ = losses_of(cfg, weights)
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    assert got[0] != got[1]


def test_retinanet_trains_as_detectron2s_and_with_weights_of_the_levels() -> None:
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


def test_official_pkl_loads_through_detectron2s_checkpointer(tmp_path: Any) -> None:
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
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        wanted, got = stock.backbone(images), ours.backbone(images)
    assert all(torch.allclose(got[name], wanted[name], atol=1e-5) for name in wanted)


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
