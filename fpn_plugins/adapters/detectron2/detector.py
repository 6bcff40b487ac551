"""Implement `fpn_plugins.adapters.hosts.Host` for Detectron2; see there for arguments and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...files import suffix_of
from ...inference import AnnotatedImage, Detections, InputSettings, load_detector_weights
from ...packaged import resolve_config
from ...zoo.index import forget_weights
from ..config_errors import split_overrides, trying
from .builders import check_builders

# part of the protocol
from .compatibility import detector_facts as detector_facts
from .compatibility import num_classes as num_classes
from .export import exportable as exportable
from .inference import Predictor as Predictor
from .input_settings import lazy_settings, yaml_settings
from .reading import read_lazy, read_yaml


def build(config: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
    """Build the detector of a YAML or LazyConfig file, or of ``detectron2::NAME`` in its zoo, without reading weights.

    A LazyConfig is built on PyTorch's default device.
    """
    config = resolve_config(config)
    if suffix_of(config) == ".py":
        lazy = read_lazy(config, options)
        forget_weights(lazy.model)
        with trying(f"config {config!r}"):
            return instantiate(lazy.model)
    cfg = _read_yaml(config, options)
    cfg.MODEL.DEVICE = device
    check_builders(cfg)
    forget_weights(cfg.MODEL.FPN_PLUGINS)
    with trying(f"config {config!r}"):
        return build_model(cfg)


def load(config: str, checkpoint: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
    """Build a detector in evaluation mode with all of its weights from a file; nothing in the file is executed."""
    with trying(f"config {config!r}", RuntimeError):
        detector = build(config, options)
    load_detector_weights(detector, checkpoint, config)
    return detector.to(device).eval()


def input_settings(config: str, options: Sequence[str] = ()) -> InputSettings:
    """Read the size of images and the classes from the test data of a config; the data itself is not needed."""
    config = resolve_config(config)
    if suffix_of(config) == ".py":
        return lazy_settings(read_lazy(config, options))
    return yaml_settings(_read_yaml(config, options))


def _read_yaml(path: str, options: Sequence[str]) -> CfgNode:
    return read_yaml(path, [part for pair in split_overrides(options) for part in pair])


def coco_names() -> list[str]:
    """Return the names of COCO's classes."""
    return list(MetadataCatalog.get("coco_2017_val").thing_classes)


def run_parts(detector: Any, images: Tensor) -> list[str]:
    """Run backbone, neck and heads; return the conditions of their cost."""
    if not isinstance(detector, (GeneralizedRCNN, DenseDetector)):
        raise ValueError(
            f"{type(detector).__name__} is neither a GeneralizedRCNN (or PanopticFPN) nor a dense detector (RetinaNet, "
            "FCOS) of Detectron2; count only its backbone and neck, with --backbone and --neck"
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
    """Run box, mask and keypoint heads of every cascade stage on as many regions as the config allows."""
    channels = maps[heads.box_in_features[0]].shape[1]
    for head, predictor in zip(_each(heads.box_head), _each(heads.box_predictor), strict=True):
        predictor(head(_regions(number, channels, heads.box_pooler)))
    yield f"{number} proposals, the most that the config allows"
    for kind in ("mask", "keypoint"):
        head, pooler = getattr(heads, f"{kind}_head", None), getattr(heads, f"{kind}_pooler", None)
        if head is not None and pooler is not None:
            objects = _each(heads.box_predictor)[-1].test_topk_per_image * batch_size
            head.layers(_regions(objects, channels, pooler))
            yield f"{objects} objects with {kind}s, the most that the config allows"


def run_res5_heads(heads: Any, maps: Mapping[str, Tensor], number: int, batch_size: int) -> Iterator[str]:
    """Run the heads of a C4 model, whose last backbone stage runs on each region, and again on those with masks."""
    channels = maps[heads.in_features[0]].shape[1]
    heads.box_predictor(heads.res5(_regions(number, channels, heads.pooler)).mean(dim=(2, 3)))
    yield f"{number} proposals, the most that the config allows"
    if heads.mask_on:
        objects = heads.box_predictor.test_topk_per_image * batch_size
        heads.mask_head.layers(heads.res5(_regions(objects, channels, heads.pooler)))
        yield f"{objects} objects with masks, the most that the config allows"


def _each(module: nn.Module) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _regions(number: int, channels: int, pooler: Any) -> Tensor:
    return torch.empty(number, channels, *pooler.output_size, requires_grad=True)


def batch(images: Sequence[AnnotatedImage]) -> list[dict[str, Any]]:
    """Collate images as Detectron2's data loader does."""
    samples = []
    for image in images:
        height, width = image.pixels.shape[1:]
        instances = Instances((height, width))
        instances.gt_boxes, instances.gt_classes = Boxes(image.boxes), image.labels
        instances.gt_masks = BitMasks(torch.from_numpy(image.masks))
        samples.append({"image": image.pixels, "instances": instances, "height": height, "width": width})
    return samples


def losses(detector: nn.Module, images: Sequence[AnnotatedImage]) -> tuple[Tensor, dict[str, float]]:
    """Run the forward pass of a training step; return the total loss, and each loss by name."""
    with EventStorage():  # detectors log into it
        found = detector(batch(images))
    return sum(found.values()), {name: float(value.detach()) for name, value in found.items()}


def detect(detector: nn.Module, images: Sequence[AnnotatedImage]) -> list[Detections]:
    """Detect objects on each image, postprocessing included."""
    found = [output["instances"] for output in detector(batch(images))]
    return [
        Detections(entry.pred_boxes.tensor, entry.scores, entry.pred_classes, entry.get_fields().get("pred_masks"))
        for entry in found
    ]
