"""MMDetection's detectors for ``_detectors.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.datasets import CocoDataset
from mmdet.models import SingleStageDetector, TwoStageDetector
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from torch import Tensor, nn

from fpn_plugins.weights.zoo import forget_weights


def build(config: str, options: Sequence[str], device: str) -> nn.Module:
    """The detector of a config file, or of one of mmdet's own (``mmdet::NAME``); weights stay as they are drawn."""
    register_all_modules()
    path = Path(mmdet.__file__).parent / ".mim" / "configs" / config.split("::")[1] if "::" in config else Path(config)
    cfg = Config.fromfile(path if path.suffix else path.with_suffix(".py"))
    pairs = (option.split("=", 1) for option in options)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in pairs})
    forget_weights(cfg.model)
    with torch.device(device):
        return MODELS.build(cfg.model)


def coco_names() -> list[str]:
    """Names of COCO's classes."""
    return list(CocoDataset.METAINFO["classes"])


def run(detector: Any, images: Tensor) -> list[str]:
    """Run the parts of a detector; returns the conditions."""
    if not isinstance(detector, (TwoStageDetector, SingleStageDetector)):
        raise ValueError(
            f"{type(detector).__name__} is neither a two-stage nor a single-stage detector of mmdet; count its "
            "backbone and neck with --backbone and --neck"
        )
    maps = detector.extract_feat(images)
    if isinstance(detector, SingleStageDetector):
        detector.bbox_head(maps)
        return []
    if detector.with_rpn:
        detector.rpn_head(maps)
    if getattr(detector, "semantic_head", None) is not None:
        detector.semantic_head(maps)
    return list(run_roi_head(detector.roi_head, detector.test_cfg, images.shape[0])) if detector.with_roi_head else []


def run_roi_head(roi_head: Any, test_cfg: Any, batch_size: int) -> Iterator[str]:
    """Run box and mask heads, of every stage of a cascade, on as many regions as the config lets through at most."""
    num_proposals = test_cfg.rpn.max_per_img * batch_size
    for extractor, head in zip(_each(roi_head.bbox_roi_extractor), _each(roi_head.bbox_head), strict=True):
        head(_regions(roi_head, extractor, num_proposals))
    yield f"{num_proposals} proposals, the most that the config lets through"
    if roi_head.with_mask:
        num_objects = test_cfg.rcnn.max_per_img * batch_size
        for extractor, head in zip(_each(roi_head.mask_roi_extractor), _each(roi_head.mask_head), strict=True):
            head(_regions(roi_head, extractor, num_objects))
        yield f"{num_objects} objects with masks, the most that the config lets through"


def _each(module: nn.Module) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _regions(roi_head: Any, extractor: Any, number: int) -> Tensor:
    sampled = torch.empty(number, extractor.out_channels, *extractor.roi_layers[0].output_size, requires_grad=True)
    return roi_head.shared_head(sampled) if roi_head.with_shared_head else sampled
