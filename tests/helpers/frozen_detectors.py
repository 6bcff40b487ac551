"""Configs of tiny detectors of both toolboxes around any backbone of this package."""

from __future__ import annotations

from typing import Any


def mmdet_config(backbone: dict[str, Any]) -> Any:
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from tiny_detector import CONFIG

    register_all_modules()
    cfg = Config.fromstring(CONFIG, ".py").model
    neck = {"type": "SimpleFeaturePyramid", "out_channels": 4, "num_outs": 2, "scale_factors": (1, 0.5)}
    if backbone["type"] != "ViT":
        neck = {"type": "FPN", "out_channels": 4, "num_outs": 2, "start_level": 2}
    cfg.backbone = {"type": "fpn_plugins.PyramidBackbone", "backbone": backbone, "neck": neck}
    cfg.neck = None
    cfg.bbox_head.num_classes = 2
    assigner = {"type": "mmdet.MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0}
    cfg.train_cfg = {
        "assigner": assigner,
        "sampler": {"type": "mmdet.PseudoSampler"},
        "allowed_border": -1,
        "pos_weight": -1,
    }
    return cfg


def detectron2_config(backbone: dict[str, Any]) -> Any:
    from detectron2 import model_zoo
    from detectron2.config import LazyCall as L

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    model = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py").model
    neck: dict[str, Any] = {"type": "SimpleFeaturePyramid", "out_channels": 4, "scale_factors": (1, 0.5)}
    if backbone["type"] != "ViT":
        neck = {"type": "FPN", "out_channels": 4, "in_indices": (2, 3)}
    model.backbone = L(PyramidBackbone)(bottom_up=backbone, neck=neck)
    model.head_in_features = ["p4", "p5"]
    model.head.update(input_shape=[L(_shape)(), L(_shape)()], num_classes=80, conv_dims=[4], num_anchors=9)
    model.anchor_generator.update(sizes=[[32, 40, 50], [64, 80, 100]], strides=[16, 32])
    return model


def _shape() -> Any:
    from detectron2.layers import ShapeSpec

    return ShapeSpec(channels=4)


def pretrained_part(model: Any) -> Any:
    """Return the network inside the toolbox's backbone."""
    return getattr(model.backbone, "bottom_up", None) or model.backbone.backbone
