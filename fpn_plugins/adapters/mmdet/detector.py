"""Implement `fpn_plugins.adapters.hosts.Host` for MMDetection; see there for arguments and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmdet.datasets import CocoDataset
from mmdet.models import SingleStageDetector, TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...extras import quiet_imports
from ...inference import AnnotatedImage, Detections, InputSettings, load_detector_weights
from ...packaged import resolve_config
from ...weights.checkpoint import read_content
from ...zoo.index import forget_weights
from ..config_errors import reading, split_overrides, trying

# part of the protocol
from .compatibility import detector_facts as detector_facts
from .compatibility import num_classes as num_classes
from .export import exportable as exportable
from .inference import Predictor as Predictor
from .input_settings import settings_of


def build(config: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
    """Build the detector of a config file, or of one of mmdet's own (``mmdet::NAME``), without reading weights."""
    with trying(f"config {config!r}"):
        return _build(read_config(config, options), device)


def load(config: str, checkpoint: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
    """Build a detector with all of its weights from a file, ready for mmdet's ``inference_detector``.

    Unlike in mmdet's ``init_detector``, nothing in the checkpoint is executed, and it has to fit completely.
    """
    cfg = read_config(config, options)
    with trying(f"config {config!r}", RuntimeError):
        detector: Any = _build(cfg, "cpu")
    load_detector_weights(detector, checkpoint, config)
    detector.cfg, detector.dataset_meta = cfg, _dataset_meta(checkpoint)
    return detector.to(device).eval()


def read_config(config: str, options: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config as `build` does.

    Args:
        config: see `build`.
        options: overrides, ``KEY=VALUE``, of keys that the config has.
        changes: overrides of any keys, by dotted path.

    Raises:
        FileNotFoundError: no such file, or none of a base config.
        ValueError: the file cannot be executed, has no ``model``, or an override is no ``KEY=VALUE`` of the config.
    """
    config = resolve_config(config)
    with reading(config):
        cfg = Config.fromfile(config)
        if not isinstance(cfg.get("model"), Mapping):
            raise ValueError(f"config {config!r} has no `model` that is a dict, so it describes no detector of mmdet")
    pairs = split_overrides(options, list(cfg.keys()))
    with reading(config, options):
        cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in pairs} | dict(changes or {}))
    return cfg


def input_settings(config: str, options: Sequence[str] = ()) -> InputSettings:
    """Read the size of images and the classes from the test data of a config; the data itself is not needed."""
    return settings_of(read_config(config, options))


def _build(cfg: Config, device: str) -> nn.Module:
    with quiet_imports():
        register_all_modules()
    forget_weights(cfg.model)
    with torch.device(device):
        return MODELS.build(cfg.model)


def _dataset_meta(checkpoint: str) -> dict[str, Any]:
    """Return class names and palette for mmdet's visualizer from the checkpoint, else COCO's."""
    content = read_content(checkpoint)
    meta = content.get("meta") if isinstance(content, Mapping) else None
    found = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    named = found if isinstance(found, Mapping) and found.get("classes") else {"classes": coco_names()}
    return {"palette": "random", **{str(key).lower(): value for key, value in named.items()}}


def coco_names() -> list[str]:
    """Return the names of COCO's classes."""
    return list(CocoDataset.METAINFO["classes"])


def run_parts(detector: Any, images: Tensor) -> list[str]:
    """Run backbone, neck and heads; return the conditions of their cost."""
    if not isinstance(detector, (TwoStageDetector, SingleStageDetector)):
        raise ValueError(
            f"{type(detector).__name__} is neither a two-stage nor a single-stage detector of mmdet; count only its "
            "backbone and neck, with --backbone and --neck"
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
    """Run box and mask heads of every cascade stage on as many regions as the config allows."""
    num_proposals = test_cfg.rpn.max_per_img * batch_size
    for extractor, head in zip(_each(roi_head.bbox_roi_extractor), _each(roi_head.bbox_head), strict=True):
        head(_regions(roi_head, extractor, num_proposals))
    yield f"{num_proposals} proposals, the most that the config allows"
    if roi_head.with_mask:
        num_objects = test_cfg.rcnn.max_per_img * batch_size
        for extractor, head in zip(_each(roi_head.mask_roi_extractor), _each(roi_head.mask_head), strict=True):
            head(_regions(roi_head, extractor, num_objects))
        yield f"{num_objects} objects with masks, the most that the config allows"


def _each(module: nn.Module) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _regions(roi_head: Any, extractor: Any, number: int) -> Tensor:
    sampled = torch.empty(number, extractor.out_channels, *extractor.roi_layers[0].output_size, requires_grad=True)
    return roi_head.shared_head(sampled) if roi_head.with_shared_head else sampled


def batch(images: Sequence[AnnotatedImage]) -> dict[str, Any]:
    """Collate images as mmdet's data loader does."""
    samples = []
    for image in images:
        size = tuple(image.pixels.shape[1:])
        sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
        masks = BitmapMasks(image.masks.astype("uint8"), *size)
        sample.gt_instances = InstanceData(bboxes=image.boxes, labels=image.labels, masks=masks)
        samples.append(sample)
    return {"inputs": [image.pixels for image in images], "data_samples": samples}


def losses(detector: Any, images: Sequence[AnnotatedImage]) -> tuple[Tensor, dict[str, float]]:
    """Run the forward pass of a training step; return the total loss, and each loss by name."""
    data = detector.data_preprocessor(batch(images), training=True)
    total, named = detector.parse_losses(detector(**data, mode="loss"))
    return total, {name: float(value.detach()) for name, value in named.items() if "loss_" in name}


def detect(detector: Any, images: Sequence[AnnotatedImage]) -> list[Detections]:
    """Detect objects on each image, postprocessing included."""
    found = [sample.pred_instances for sample in detector.test_step(batch(images))]
    return [Detections(entry.bboxes, entry.scores, entry.labels, entry.get("masks")) for entry in found]
