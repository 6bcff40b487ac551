"""What cannot be exported is refused with the name of the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from export_detectors import build_detectron2, build_mmdet, host_module
from torch import nn

from fpn_plugins.export.support import LIMITS

ROOT = Path(__file__).parents[2]


def test_the_guide_has_every_limit_and_each_is_some_refusals():
    rows = [f"| {part} | {limit} |" for part, limit in LIMITS.items()]
    assert "\n".join(rows) in (ROOT / "docs/guides/deploy.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fpn_plugins/adapters").rglob("export*.py"))
    assert [part for part in LIMITS if f'"{part}"' not in sources and part != "layers"] == []


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("atss/atss_r50_fpn_1x_coco.py", "ATSSHead cannot be exported: it is not a RetinaHead"),
        ("detr/detr_r50_8xb2-150e_coco.py", "DETR cannot be exported: it is neither"),
        ("htc/htc_r50_fpn_1x_coco.py", "HybridTaskCascadeRoIHead cannot be exported: it computes"),
        ("double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py", "DoubleHeadRoIHead cannot be exported: it computes"),
        ("dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py", "pyramid.backbone.layer2.0.conv2 cannot be exported"),
    ],
)
def test_mmdet(config: str, message: str):
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    model = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim/configs" / config)).model
    model.backbone.init_cfg = None
    with torch.device("meta"):
        detector = MODELS.build(model)
    detector.data_preprocessor = MODELS.build(model.data_preprocessor)
    with pytest.raises(ValueError, match=message):
        host_module("mmdet").exportable(detector)


def change(detector: Any, path: str, value: object) -> Any:
    """Set an attribute or entry inside a detector, by dotted path."""
    *parents, last = path.split(".")
    for name in parents:
        detector = getattr(detector, name)
    if isinstance(detector, dict):
        detector[last] = value
    else:
        setattr(detector, last, value)


def assert_refused_with(host: str, detector: nn.Module, path: str, value: object, message: str) -> None:
    """Check that a detector with another part or setting is no longer exportable."""
    change(detector, path, value)
    with pytest.raises(ValueError, match=message):
        host_module(host).exportable(detector)


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("roi_head.test_cfg.nms", {"type": "soft_nms", "iou_threshold": 0.5}, "StandardRoIHead .*nms=dict"),
        ("roi_head.test_cfg.max_per_img", -1, "StandardRoIHead .* positive test_cfg.max_per_img"),
        ("roi_head.bbox_head.loss_cls.custom_activation", True, "Shared2FCBBoxHead .* activation of its own"),
        ("rpn_head.bbox_coder", object(), "object cannot be exported: it is not mmdet's DeltaXYWHBBoxCoder"),
        ("rpn_head.prior_generator", object(), "object cannot be exported: it is not mmdet's AnchorGenerator"),
        ("roi_head.bbox_roi_extractor", nn.Identity(), "Identity cannot be exported: it is not a SingleRoIExtractor"),
        ("roi_head.mask_head", nn.Identity(), "Identity cannot be exported: it is not a FCNMaskHead"),
        ("data_preprocessor", nn.Identity(), "Identity cannot be exported: it is not a DetDataPreprocessor"),
    ],
)
def test_parts_of_mmdet(path: str, value: object, message: str):
    assert_refused_with("mmdet", build_mmdet("mask_rcnn"), path, value, message)


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("roi_heads.keypoint_on", True, "StandardROIHeads .* keypoint_on=False"),
        ("roi_heads.box_predictor.test_topk_per_image", -1, "FastRCNNOutputLayers .* positive number of detections"),
        ("roi_heads.mask_pooler", nn.Identity(), "Identity cannot be exported: it is not a ROIPooler"),
        ("proposal_generator.anchor_generator", nn.Identity(), "Identity .* DefaultAnchorGenerator"),
        ("proposal_generator", nn.Identity(), "Identity cannot be exported: it is not a RPN"),
    ],
)
def test_parts_of_detectron2(path: str, value: object, message: str):
    assert_refused_with("detectron2", build_detectron2("mask_rcnn"), path, value, message)


@pytest.mark.parametrize(
    ("toolbox", "kind", "part", "method"),
    [
        pytest.param("mmdet", "cascade_rcnn", "roi_head", "_refine_roi", marks=pytest.mark.mmdet),
        pytest.param("detectron2", "cascade_rcnn", "roi_heads", "_run_stage", marks=pytest.mark.detectron2),
        pytest.param("detectron2", "retinanet", "", "_decode_multi_level_predictions", marks=pytest.mark.detectron2),
    ],
)
def test_parts_that_a_user_derives(toolbox: str, kind: str, part: str, method: str):
    detector = build_mmdet(kind) if toolbox == "mmdet" else build_detectron2(kind)
    owner = getattr(detector, part) if part else detector
    owner.__class__ = type("Derived", (type(owner),), {method: lambda self, *args: None})
    with pytest.raises(ValueError, match=f"Derived cannot be exported: it computes {method} differently"):
        host_module(toolbox).exportable(detector)


@pytest.mark.detectron2
def test_detectors_of_detectron2():
    from detectron2.modeling import ProposalNetwork
    from detectron2.modeling.meta_arch.fcos import FCOS

    for kind in (FCOS, ProposalNetwork):
        detector = kind.__new__(kind)
        nn.Module.__init__(detector)
        with pytest.raises(ValueError, match=f"{kind.__name__} cannot be exported"):
            host_module("detectron2").exportable(detector)


@pytest.mark.mmdet
def test_choice_of_masks():
    with pytest.raises(ValueError, match="masks='boxes'"):
        host_module("mmdet").exportable(build_mmdet("mask_rcnn"), masks="boxes")
