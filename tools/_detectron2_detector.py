"""Detectron2's detectors for ``_detectors.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from _bench_pictures import Picture
from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config
from fpn_plugins.inference import Detections
from fpn_plugins.weights.zoo import forget_weights

__all__ = ["batch_of", "build", "coco_names", "detect", "losses", "run"]


def build(config: str, options: Sequence[str], device: str) -> nn.Module:
    """The detector of a YAML or LazyConfig file, or of one of the zoo's (``detectron2::NAME``); reads no weights."""
    path = _zoo_file(config.split("::")[1]) if "::" in config else config
    if path.endswith(".py"):
        cfg = LazyConfig.apply_overrides(LazyConfig.load(path), list(options))
        forget_weights(cfg.model)
        return instantiate(cfg.model)
    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.merge_from_file(path)
    cfg.merge_from_list([part for option in options for part in option.split("=", 1)])
    cfg.MODEL.DEVICE = device
    forget_weights(cfg.MODEL.FPN_PLUGINS)
    return build_model(cfg)


def _zoo_file(name: str) -> str:
    try:
        return model_zoo.get_config_file(name)
    except RuntimeError as error:
        raise FileNotFoundError(f"Detectron2's model zoo has no config {name!r}") from error


def coco_names() -> list[str]:
    """Names of COCO's classes."""
    return list(MetadataCatalog.get("coco_2017_val").thing_classes)


def run(detector: Any, images: Tensor) -> list[str]:
    """Run the parts of a detector; returns the conditions."""
    if not isinstance(detector, (GeneralizedRCNN, DenseDetector)):
        raise ValueError(
            f"{type(detector).__name__} is neither a GeneralizedRCNN (or PanopticFPN) nor a dense detector (RetinaNet, "
            "FCOS) of Detectron2; count its backbone and neck with --backbone and --neck"
        )
    maps = detector.backbone(images)
    if isinstance(detector, DenseDetector):
        detector.head([maps[name] for name in detector.head_in_features])
        return []
    proposals = detector.proposal_generator
    proposals.rpn_head([maps[name] for name in proposals.in_features])
    if hasattr(detector, "sem_seg_head"):
        detector.sem_seg_head.layers(maps)
    number = proposals.post_nms_topk[False] * images.shape[0]
    heads = run_res5_heads if isinstance(detector.roi_heads, Res5ROIHeads) else run_roi_heads
    return list(heads(detector.roi_heads, maps, number, images.shape[0]))


def run_roi_heads(heads: Any, maps: Mapping[str, Tensor], number: int, batch_size: int) -> Iterator[str]:
    """Run box, mask and keypoint heads, of every stage of a cascade, on as many regions as the config lets through."""
    channels = maps[heads.box_in_features[0]].shape[1]
    for head, predictor in zip(_each(heads.box_head), _each(heads.box_predictor), strict=True):
        predictor(head(_regions(number, channels, heads.box_pooler)))
    yield f"{number} proposals, the most that the config lets through"
    for kind in ("mask", "keypoint"):
        head, pooler = getattr(heads, f"{kind}_head", None), getattr(heads, f"{kind}_pooler", None)
        if head is not None and pooler is not None:
            objects = _each(heads.box_predictor)[-1].test_topk_per_image * batch_size
            head.layers(_regions(objects, channels, pooler))
            yield f"{objects} objects with {kind}s, the most that the config lets through"


def run_res5_heads(heads: Any, maps: Mapping[str, Tensor], number: int, batch_size: int) -> Iterator[str]:
    """Run the heads of a C4 model, whose last backbone stage runs on each region, and once more on those with masks."""
    channels = maps[heads.in_features[0]].shape[1]
    heads.box_predictor(heads.res5(_regions(number, channels, heads.pooler)).mean(dim=(2, 3)))
    yield f"{number} proposals, the most that the config lets through"
    if heads.mask_on:
        objects = heads.box_predictor.test_topk_per_image * batch_size
        heads.mask_head.layers(heads.res5(_regions(objects, channels, heads.pooler)))
        yield f"{objects} objects with masks, the most that the config lets through"


def _each(module: nn.Module) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _regions(number: int, channels: int, pooler: Any) -> Tensor:
    return torch.empty(number, channels, *pooler.output_size, requires_grad=True)


def batch_of(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Pictures as Detectron2's data loader hands them on."""
    samples = []
    for picture in pictures:
        height, width = picture.pixels.shape[1:]
        instances = Instances((height, width))
        instances.gt_boxes, instances.gt_classes = Boxes(picture.boxes), picture.labels
        instances.gt_masks = BitMasks(torch.from_numpy(picture.masks))
        samples.append({"image": picture.pixels, "instances": instances, "height": height, "width": width})
    return samples


def losses(detector: nn.Module, pictures: Sequence[Picture]) -> tuple[Tensor, dict[str, float]]:
    """A training step's forward pass, preprocessing included: the sum of the losses, and each of them."""
    with EventStorage():  # where detectors log
        found = detector(batch_of(pictures))
    return sum(found.values()), {name: float(value) for name, value in found.items()}


def detect(detector: nn.Module, pictures: Sequence[Picture]) -> list[Detections]:
    """What a detector finds, postprocessing included."""
    found = [output["instances"] for output in detector(batch_of(pictures))]
    return [
        Detections(entry.pred_boxes.tensor, entry.scores, entry.pred_classes, entry.get_fields().get("pred_masks"))
        for entry in found
    ]
