"""One shipped config per neck trains and detects, on whichever operators mmcv has.

Continuous integration repeats this file with a copy of mmcv's Python files without the compiled extension, and
``FPN_PLUGINS_TEST_OPERATORS=ours`` says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fpn_plugins import NECKS

pytestmark = pytest.mark.mmdet
ROOT = Path(__file__).resolve().parents[3] / "configs" / "mmdet"
OPERATORS = "FPN_PLUGINS_TEST_OPERATORS"
CONFIGS = {
    "FPN": "mask_rcnn_r50_fpn_12e",
    "FPN_CARAFE": "faster_rcnn_r50_fpn_carafe_12e",
    "PAFPN": "faster_rcnn_r50_pafpn_12e",
    "BFP": "faster_rcnn_r50_libra_12e",
    "BiFPN": "retinanet_r50_bifpn_12e",
    "NASFPN": "retinanet_r50_nasfpn_12e",
    "CSPPAFPN": "yolox_s_csppafpn_300e",
    "SSDPyramid": "faster_rcnn_r50_ssd_pyramid_12e",
    "TopDownPyramid": "faster_rcnn_r50_top_down_12e",
    "PanopticFPN": "panoptic_fpn_r50_12e",
    "SimpleFeaturePyramid": "mask_rcnn_vitdet_b_100e",
    "MultiScaleProjector": "mask_rcnn_vit_b_projector_100e",
}
# in no config
UNSHIPPED = {
    *("ChannelMapper", "DilatedEncoder", "DyHead", "FPG", "HRFPN", "MSDeformAttnPixelDecoder", "RFP", "SSH"),
    *("HybridEncoder", "SingleScale"),
    *("CSPNeXtPAFPN", "CTResNetNeck", "NASFCOSFPN", "SSDNeck", "YOLOV3Neck"),
}


def test_every_neck_has_a_config() -> None:
    shipped = {name for name, neck in NECKS.items() if neck.__module__.startswith("fpn_plugins.")}
    assert shipped - UNSHIPPED <= set(CONFIGS)


@pytest.fixture(scope="module", autouse=True)
def operators() -> None:
    import mmcv._ext

    wanted = os.environ.get(OPERATORS)
    assert wanted in (None, "ours")
    assert wanted is None or Path(mmcv._ext.__file__).name == "_ext.py"


def small(node: Any) -> None:
    """Drop checkpoints and other sizes, narrow a ViT, and let detections of random weights through."""
    if not isinstance(node, dict):
        for entry in node if isinstance(node, (list, tuple)) else ():
            small(entry)
        return
    changes = {"checkpoint": None, "init_cfg": None, "pretrained": False, "score_thr": 0.0, "max_per_img": 10}
    changes |= {"batch_augments": None, "pad_size_divisor": 32}
    node.update({key: value for key, value in changes.items() if key in node})
    if node.get("type") == "ViT":
        node.update(embed_dim=64, num_heads=4)
    for value in node.values():
        small(value)


def batch(semantic: bool) -> dict[str, Any]:
    """Two seeded pictures with boxes and masks."""
    from mmdet.testing import demo_mm_inputs

    more = {"with_semantic": semantic, "num_classes": 80}
    return demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[3, 2], with_mask=True, **more)


@pytest.mark.parametrize("neck", CONFIGS)
def test_a_detector_trains_and_detects(neck: str, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    register_all_modules()
    cfg = Config.fromfile(str(ROOT / f"{CONFIGS[neck]}.py")).model
    small(cfg)
    model = MODELS.build(cfg)
    semantic = "semantic_head" in cfg
    loss, log = model.parse_losses(model(**model.data_preprocessor(batch(semantic), training=True), mode="loss"))
    loss.backward()
    assert torch.isfinite(loss) and len(log) > 2
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(batch(semantic), training=False), mode="predict")
    assert len(results) == 2
    for result in results:
        if semantic:
            assert result.pred_panoptic_seg.sem_seg.numel()
        else:
            assert len(result.pred_instances.bboxes) and not result.pred_instances.bboxes.isnan().any()
