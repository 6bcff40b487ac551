"""MMDetection's detectors for ``_detectors.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmdet
import torch
from _bench_pictures import Picture
from mmcv.ops import RoIAlign
from mmdet.datasets import CocoDataset
from mmdet.models import SingleStageDetector, TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fpn_plugins.inference import Detections
from fpn_plugins.weights.zoo import forget_weights

__all__ = ["allow_bf16", "batch_of", "build", "coco_names", "detect", "losses", "run"]


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


def batch_of(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Pictures as mmdet's data loader hands them on."""
    samples = []
    for picture in pictures:
        size = tuple(picture.pixels.shape[1:])
        sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
        masks = BitmapMasks(picture.masks.astype("uint8"), *size)
        sample.gt_instances = InstanceData(bboxes=picture.boxes, labels=picture.labels, masks=masks)
        samples.append(sample)
    return {"inputs": [picture.pixels for picture in pictures], "data_samples": samples}


def losses(detector: Any, pictures: Sequence[Picture]) -> tuple[Tensor, dict[str, float]]:
    """A training step's forward pass, preprocessing included: the sum of the losses, and each of them."""
    data = detector.data_preprocessor(batch_of(pictures), training=True)
    total, named = detector.parse_losses(detector(**data, mode="loss"))
    return total, {name: float(value) for name, value in named.items() if "loss_" in name}


def detect(detector: Any, pictures: Sequence[Picture]) -> list[Detections]:
    """What a detector finds, postprocessing included."""
    found = [sample.pred_instances for sample in detector.test_step(batch_of(pictures))]
    return [Detections(entry.bboxes, entry.scores, entry.labels, entry.get("masks")) for entry in found]


def allow_bf16(detector: nn.Module) -> None:
    """Let a detector run under autocast to bfloat16 on a CPU, where mmcv's RoIAlign and NMS know single precision only.

    RoIAlign's inputs are cast for it, and what the heads predict is, before boxes are decoded and losses computed.
    """
    for name, module in detector.named_modules():
        if isinstance(module, RoIAlign):
            module.register_forward_pre_hook(lambda _, inputs: tree_map_only(Tensor, Tensor.float, inputs))
            module.register_forward_hook(lambda _, inputs, pooled: pooled.bfloat16())
        elif name.rstrip(".0123456789").split(".")[-1] in ("rpn_head", "bbox_head", "mask_head"):  # of a stage, or all
            module.register_forward_hook(lambda _, inputs, predicted: tree_map_only(Tensor, Tensor.float, predicted))
