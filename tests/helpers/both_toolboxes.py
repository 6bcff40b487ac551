"""One detector in both toolboxes, one batch as each of them reads it, and the losses and gradients on it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fpn_plugins.analysis import spread_predictions
from fpn_plugins.conversion import convert

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# mmdet's names of the losses -> Detectron2's
NAMES = {
    "loss_rpn_bbox": "loss_rpn_loc",
    "loss_bbox": "loss_box_reg",
    "loss_seg": "loss_sem_seg",
}


class Pair(NamedTuple):
    """A detector with the same weights in both toolboxes, in training mode."""

    mmdet: Any
    detectron2: Any


class Batch(NamedTuple):
    """The same images and annotations, as the data set of each toolbox hands them out."""

    mmdet: dict[str, Any]
    detectron2: list[dict[str, Any]]


def build_pair(
    mmdet: tuple[str, Sequence[str]],
    detectron2: tuple[str, Sequence[str]],
    batch: Batch,
    prepare: Callable[[Any], object] = lambda model: None,
) -> Pair:
    """Build a detector of mmdet with random weights that tell things apart, and fill Detectron2's with them.

    Args:
        mmdet: config and overrides, as `fpn_plugins.adapters.hosts.build_detector` takes them.
        detectron2: likewise.
        batch: on which the outputs get their spread.
        prepare: called with mmdet's detector before that.
    """
    from fpn_plugins.adapters.hosts import build_detector

    torch.manual_seed(0)  # whatever the seed of the run: in other draws, no region is positive
    ours, theirs = build_detector(*mmdet), build_detector(*detectron2)
    prepare(ours)
    with torch.no_grad():
        spread_predictions(ours, lambda: mmdet_losses(ours.train(), batch))
    theirs.load_state_dict(convert(ours.state_dict(), theirs.state_dict())[0])
    return Pair(ours, theirs.train())


def read_batch(
    image_ids: Sequence[int],
    stem: str = "demo_mask_rcnn",
    masks: str = "bitmask",
    image_format: str = "RGB",
    size: tuple[int, int] = (240, 320),
) -> Batch:
    """Training images by number, through the data sets of the configs of that stem, without their random flip.

    Args:
        image_ids: of the folder that ``FPN_PLUGINS_COCO`` names.
        stem: of both configs.
        masks: ``"bitmask"``, or ``"polygon"``, which leaves out crowd regions.
        image_format: of Detectron2's images; mmdet's are always BGR.
        size: shorter and longer side in pixels. The default is the images' own.
    """
    ours, theirs = _mmdet_data(stem, masks, size), _detectron2_data(stem, masks, size, image_format)
    return Batch(ours(image_ids), [theirs(image_id) for image_id in image_ids])


def _mmdet_data(stem: str, masks: str, size: tuple[int, int]) -> Callable[[Sequence[int]], dict[str, Any]]:
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate

    register_all_modules()
    cfg = Config.fromfile(str(CONFIGS / f"mmdet/{stem}.py")).train_dataloader.dataset
    cfg.pipeline = [step for step in cfg.pipeline if step.type != "RandomFlip"]
    if masks == "polygon":
        cfg.pipeline[1].poly2mask = False
    cfg.pipeline[2].scale = size
    data = DATASETS.build(cfg)
    position = {data.get_data_info(index)["img_id"]: index for index in range(len(data))}
    return lambda image_ids: pseudo_collate([data[position[image_id]] for image_id in image_ids])


def _detectron2_data(
    stem: str, masks: str, size: tuple[int, int], image_format: str
) -> Callable[[int], dict[str, Any]]:
    from detectron2.config import LazyConfig, instantiate
    from detectron2.data import DatasetCatalog

    cfg = LazyConfig.load(str(CONFIGS / f"detectron2/{stem}.py")).dataloader.train
    resize = cfg.mapper.augmentations[0]  # a flip follows
    resize.short_edge_length, resize.max_size = size
    cfg.mapper.update(augmentations=[resize], image_format=image_format, instance_mask_format=masks)
    mapper = instantiate(cfg.mapper)
    entries = {entry["image_id"]: copy.deepcopy(entry) for entry in DatasetCatalog.get(cfg.dataset.names)}
    if masks == "polygon":
        for entry in entries.values():
            entry["annotations"] = [a for a in entry["annotations"] if isinstance(a["segmentation"], list)]
    return lambda image_id: mapper(entries[image_id])


def mmdet_losses(model: Any, batch: Batch) -> dict[str, Tensor]:
    """Losses of mmdet's detector, levels summed, by Detectron2's names."""
    data = model.data_preprocessor(copy.deepcopy(batch.mmdet), training=True)
    losses = {}
    for key, value in model(**data, mode="loss").items():
        stage, name = re.fullmatch(r"(?:s(\d)\.)?(\w+)", key).groups()  # type: ignore[union-attr]
        if "loss" in name:
            name = NAMES.get(name, name)
            losses[name if stage is None else f"{name}_stage{stage}"] = sum(value) if isinstance(value, list) else value
    return {name: value.reshape(()) for name, value in losses.items()}


def detectron2_losses(model: Any, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Losses of Detectron2's detector, and what it has logged: numbers of anchors and regions per image."""
    from detectron2.utils.events import EventStorage

    with EventStorage() as storage:
        losses = model(copy.deepcopy(batch.detectron2))
        return losses, {name: value for name, (value, _) in storage.latest().items()}


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """Of the parameters, by the keys of the state dict; zeros for what is frozen and for buffers."""
    model.zero_grad()
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    values = model.state_dict()
    return {key: torch.zeros_like(value) if found.get(key) is None else found[key] for key, value in values.items()}
