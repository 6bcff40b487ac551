"""Detectors of mmdet whose necks have heads of their own train and detect with ours; RTMDet on a backbone of timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from seeds import seed

pytestmark = [pytest.mark.mmdet, pytest.mark.filterwarnings("ignore:.*")]

# mmdet's configs -> the type of the neck
CONFIGS = {
    "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py": "SSDNeck",
    "yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco.py": "YOLOV3Neck",
    "centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py": "CTResNetNeck",
    "nas_fcos/nas-fcos_r50-caffe_fpn_fcoshead-gn-head_4xb4-1x_coco.py": "NASFCOS_FPN",
}
TIMM = {"type": "fpn_plugins.TimmBackbone", "name": "resnet10t", "out_indices": (2, 3, 4), "pretrained": False}


def detector(config: str, changes: dict[str, Any]) -> Any:
    """Build the detector of a config of mmdet with changes, without weights and augmentations of batches."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

    register_all_modules()
    cfg = get_config(f"mmdet::{config}")
    cfg.merge_from_dict(changes)
    model = cfg.model
    model.data_preprocessor.update(batch_augments=None)
    model.backbone.update(init_cfg=None)
    model.test_cfg.update(score_thr=0.0)
    seed(0)
    return MODELS.build(model)


def losses(model: Any, steps: int) -> list[float]:
    """Train on one batch; return the loss of each step."""
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(2, [[3, 96, 96]] * 2, num_items=[3, 2], num_classes=80)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        data = model.data_preprocessor(batch, training=True)
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def detect(model: Any) -> list[Any]:
    """Detect objects in two pictures."""
    from mmdet.testing import demo_mm_inputs

    data = model.eval().data_preprocessor(demo_mm_inputs(2, [[3, 96, 96]] * 2, num_classes=80), training=False)
    with torch.no_grad():
        return [sample.pred_instances for sample in model(**data, mode="predict")]


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIGS.values())
def test_a_detector_trains_and_detects(config: str) -> None:
    changes = {"model.neck.type": f"fpn_plugins.{CONFIGS[config]}"}
    if CONFIGS[config] == "NASFCOS_FPN":
        changes["model.backbone.norm_cfg.eps"] = 1e-5  # PyTorch refuses the config's 0
    model = detector(config, changes)
    model.train()
    before = [p.detach().clone() for p in model.neck.parameters()]
    assert all(torch.isfinite(torch.tensor(losses(model, 1))))
    assert any(not torch.equal(p, q) for p, q in zip(model.neck.parameters(), before, strict=True))
    if CONFIGS[config] != "SSDNeck":  # mmdet's SSDHead lacks an attribute that its prediction reads
        assert all(torch.isfinite(found.bboxes).all() for found in detect(model))


@pytest.mark.timm
def test_rtmdet_trains_on_a_backbone_of_timm() -> None:
    neck = {"type": "fpn_plugins.CSPNeXtPAFPN", "in_channels": [128, 256, 512]}
    backbone = {**TIMM, "_delete_": True}
    model = detector("rtmdet/rtmdet_tiny_8xb32-300e_coco.py", {"model.neck": neck, "model.backbone": backbone})
    model.train()
    before = [p.detach().clone() for p in model.neck.parameters()]
    assert all(torch.isfinite(torch.tensor(losses(model, 3))))
    assert not any(torch.equal(p, q) for p, q in zip(model.neck.parameters(), before, strict=True))
    assert len(detect(model)) == 2
