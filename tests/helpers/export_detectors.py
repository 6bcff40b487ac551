"""Tiny detectors of the five kinds in both toolboxes, with stock modules, which find something on random images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from calibration import draw
from torch import Tensor

from fpn_plugins.analysis import spread_predictions
from fpn_plugins.inference import AnnotatedImage

KINDS = ("retinanet", "faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "panoptic_fpn")
CHANNELS, CLASSES = 16, 3
MMDET_BASES = {
    "retinanet": "retinanet_r50_fpn",
    "faster_rcnn": "faster-rcnn_r50_fpn",
    "mask_rcnn": "mask-rcnn_r50_fpn",
    "cascade_rcnn": "cascade-rcnn_r50_fpn",
    "cascade_mask_rcnn": "cascade-mask-rcnn_r50_fpn",
    "panoptic_fpn": "mask-rcnn_r50_fpn",
}
ROI_YAML = {
    "faster_rcnn": {},
    "mask_rcnn": {"MODEL.MASK_ON": True},
    "cascade_rcnn": {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True},
    "cascade_mask_rcnn": {
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.MASK_ON": True,
    },
    "panoptic_fpn": {"MODEL.MASK_ON": True, "MODEL.META_ARCHITECTURE": "PanopticFPN"},
}


def host_module(toolbox: str) -> Any:
    """The toolbox's `Host`."""
    from fpn_plugins.adapters.hosts import host_of

    return host_of("", toolbox)


def find_something(detector: Any, toolbox: str, size: tuple[int, int] = (96, 128)) -> Any:
    """Draw weights and give the predictors the spread that makes them find objects."""
    detector = draw(detector)
    pictures = random_images(1, size)
    with torch.no_grad():
        spread_predictions(detector, lambda: run(detector, toolbox, pictures))
    return detector


def random_images(number: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Images ``B 3 H W``, RGB, of gray levels that change slowly enough for objects of any size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, 3, 7, 9, generator=generator)
    fine = torch.rand(number, 3, *size, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    return ((smooth * 0.7 + fine * 0.3) * 255).clamp(0, 255).round()


def annotated(images: Tensor, order: str) -> list[AnnotatedImage]:
    """The images as a toolbox's `detect` takes them, in the order of channels that it reads."""
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), np.zeros((0, *images.shape[-2:]))
    return [AnnotatedImage(image.flip(0) if order == "BGR" else image, *nothing) for image in images]


def run(detector: Any, toolbox: str, images: Tensor) -> list[dict[str, Tensor]]:
    """What the toolbox itself finds: boxes, scores, labels, and masks and semantic logits where it has them."""
    if toolbox == "detectron2":
        pixels = images.flip(1) if getattr(detector, "input_format", "BGR") == "BGR" else images
        found = detector(
            [{"image": picture, "height": picture.shape[1], "width": picture.shape[2]} for picture in pixels]
        )
        return [_detectron2_result(entry) for entry in found]
    host = host_module("mmdet")
    data = detector.data_preprocessor(host.batch(annotated(images, "BGR")), training=False)
    inputs, samples = data["inputs"], data["data_samples"]
    if getattr(detector, "semantic_head", None) is None:
        return [_mmdet_result(sample.pred_instances) for sample in detector.predict(inputs, samples)]
    maps = detector.extract_feat(inputs)  # the segmentor returns only what it has merged
    proposals = detector.rpn_head.predict(maps, samples, rescale=False)
    instances = detector.roi_head.predict(maps, proposals, samples, rescale=True)
    semantic = detector.semantic_head.predict(maps, [sample.metainfo for sample in samples], True)
    return [
        {**_mmdet_result(entry), "semantic_logits": logits} for entry, logits in zip(instances, semantic, strict=True)
    ]


def _mmdet_result(entry: Any) -> dict[str, Tensor]:
    masks = {"masks": entry.masks} if "masks" in entry else {}
    return {"boxes": entry.bboxes, "scores": entry.scores, "labels": entry.labels, **masks}


def _detectron2_result(entry: Mapping[str, Any]) -> dict[str, Tensor]:
    found = entry["instances"]
    masks = {"masks": found.pred_masks.bool()} if found.has("pred_masks") else {}
    semantic = {"semantic_logits": entry["sem_seg"]} if "sem_seg" in entry else {}
    return {
        "boxes": found.pred_boxes.tensor,
        "scores": found.scores,
        "labels": found.pred_classes,
        **masks,
        **semantic,
    }


def build_mmdet(kind: str, change: Callable[[Any], object] = lambda model: None) -> Any:
    """Build mmdet's detector of a kind from its own base config, shrunk."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(_mmdet_base(f"models/{MMDET_BASES[kind]}.py"))
    model = cfg.model
    model.data_preprocessor.pop("batch_augments", None)
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=CHANNELS)
    if kind == "retinanet":
        model.bbox_head.update(num_classes=CLASSES, in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=1)
        model.test_cfg.update(nms_pre=100, max_per_img=20)
    else:
        _shrink_two_stages(model)
    if kind == "panoptic_fpn":
        _add_semantic_head(model)
    change(model)
    return MODELS.build(model)


def _mmdet_base(name: str) -> str:
    from pathlib import Path

    import mmdet

    return str(Path(mmdet.__file__).parent / ".mim/configs/_base_" / name)


def _shrink_two_stages(model: Any) -> None:
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    model.test_cfg.rpn.update(nms_pre=60, max_per_img=40)
    model.test_cfg.rcnn.update(max_per_img=20)
    heads = model.roi_head
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        if heads.get(part):
            heads[part].out_channels = CHANNELS
    stages = heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]
    for head in stages:
        head.update(in_channels=CHANNELS, fc_out_channels=32, num_classes=CLASSES)
    if heads.get("mask_head"):
        heads.mask_head.update(num_convs=1, in_channels=CHANNELS, conv_out_channels=CHANNELS, num_classes=CLASSES)


def _add_semantic_head(model: Any) -> None:
    numbers = {"num_things_classes": CLASSES, "num_stuff_classes": 2}
    model.type = "mmdet.PanopticFPN"
    model.semantic_head = dict(
        type="mmdet.PanopticFPNHead", in_channels=CHANNELS, inner_channels=8, norm_cfg=dict(type="BN"), **numbers
    )
    model.panoptic_fusion_head = dict(type="mmdet.HeuristicFusionHead", **numbers)
    model.test_cfg.panoptic = dict(mask_overlap=0.5, stuff_area_limit=16)


def build_detectron2(kind: str, options: Sequence[Any] = ()) -> Any:
    """Build Detectron2's detector of a kind from its default config, shrunk."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.update(DEPTH=18, RES2_OUT_CHANNELS=64)
    cfg.MODEL.FPN.OUT_CHANNELS = CHANNELS
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    if kind == "retinanet":
        cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
        cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
        cfg.MODEL.RETINANET.update(NUM_CLASSES=CLASSES, NUM_CONVS=1, TOPK_CANDIDATES_TEST=100)
        sizes = [[size, size * 2 ** (1 / 3), size * 2 ** (2 / 3)] for size in (32, 64, 128, 256, 512)]
    else:
        _shrink_yaml(cfg)
        cfg.merge_from_list([part for pair in ROI_YAML[kind].items() for part in pair])
        sizes = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = sizes
    cfg.merge_from_list(list(options))
    return build_model(cfg)


def _shrink_yaml(cfg: Any) -> None:
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    levels = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.RPN.update(IN_FEATURES=[*levels, "p6"], PRE_NMS_TOPK_TEST=60, POST_NMS_TOPK_TEST=40)
    cfg.MODEL.ROI_HEADS.update(IN_FEATURES=levels, NUM_CLASSES=CLASSES, NAME="StandardROIHeads")
    cfg.MODEL.ROI_BOX_HEAD.update(NAME="FastRCNNConvFCHead", NUM_FC=2, FC_DIM=32, POOLER_RESOLUTION=7)
    cfg.MODEL.ROI_MASK_HEAD.update(NAME="MaskRCNNConvUpsampleHead", NUM_CONV=1, CONV_DIM=CHANNELS, POOLER_RESOLUTION=14)
    cfg.MODEL.SEM_SEG_HEAD.update(NUM_CLASSES=3, CONVS_DIM=8, NORM="BN")


def build(toolbox: str, kind: str) -> Any:
    """Build a detector that finds something."""
    detector = build_mmdet(kind) if toolbox == "mmdet" else build_detectron2(kind)
    return find_something(detector, toolbox)
