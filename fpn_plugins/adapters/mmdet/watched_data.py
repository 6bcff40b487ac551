"""Validation data with annotations as a model is trained with them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...data.segmentations import long_polygons, mask_problem

_WRAPPED = ("dataset", "datasets")


def loss_dataset(cfg: Any) -> dict[str, Any]:
    """Return the config of the validation set with annotations loaded as in training, before images are resized.

    Evaluation compares detections with annotations in pixels of the original image, so that its pipelines load them
    after ``Resize``. Losses need them in pixels of the resized one.

    Args:
        cfg: config of the training.

    Raises:
        ValueError: no ``val_dataloader`` with the config of a data set, or with no pipeline.
    """
    given = (cfg.get("val_dataloader") or {}).get("dataset")
    if not isinstance(given, Mapping) or not list(_pipelines(given)):
        raise ValueError(
            "val_dataloader has no dataset with a pipeline to compute validation losses on; give one: "
            "dict(type='fpn_plugins.ValidationLossHook', dataset=dict(type=..., pipeline=[...]))"
        )
    train = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    loaders = [step for node in _pipelines(train) for step in node["pipeline"] if _loads_annotations(step)]
    dataset: dict[str, Any] = copy.deepcopy(dict(given))
    for node in _pipelines(dataset):
        node["pipeline"] = _as_in_training(node["pipeline"], loaders[:1])
    return dataset


def _pipelines(dataset: Any) -> Iterator[Any]:
    """Yield the configs with a pipeline inside a data set's config, those of wrapped data sets first."""
    if isinstance(dataset, Mapping):
        for key in _WRAPPED:
            yield from _pipelines(dataset.get(key))
        if dataset.get("pipeline"):
            yield dataset
    elif isinstance(dataset, (list, tuple)):
        for part in dataset:
            yield from _pipelines(part)


def _as_in_training(pipeline: Sequence[Any], loaders: Sequence[Any]) -> list[Any]:
    """Move the loading of annotations to the loading of the image, with the arguments of the training's pipeline."""
    own = [step for step in pipeline if _loads_annotations(step)]
    rest = [step for step in pipeline if not _loads_annotations(step)]
    images = [index for index, step in enumerate(rest) if _name(step).startswith("Load")]
    place = images[-1] + 1 if images else 1
    wanted = loaders or own or [{"type": "mmdet.LoadAnnotations", "with_bbox": True}]
    return [*rest[:place], *copy.deepcopy(list(wanted)), *rest[place:]]


def _name(step: Any) -> str:
    kind = step["type"]
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]


def _loads_annotations(step: Any) -> bool:
    return _name(step).startswith("Load") and _name(step).endswith("Annotations")


def annotated_objects(dataset: Any, index: int) -> list[dict[str, Any]]:
    """Return the annotated objects of an image in COCO's format, with the class index as category.

    Malformed masks, which a detector of boxes does not read, are left out: to decode them may crash the process.

    Args:
        dataset: data set of mmdet; one of another kind has no objects.
        index: number of the image.
    """
    info = dataset.get_data_info(index) if hasattr(dataset, "get_data_info") else {}
    image = info if {"height", "width"} <= info.keys() else None
    objects = []
    for entry in info.get("instances") or ():
        if entry.get("ignore_flag") or "bbox" not in entry:
            continue
        left, top, right, bottom = entry["bbox"]
        objects.append({"bbox": [left, top, right - left, bottom - top], "category_id": int(entry["bbox_label"])})
        mask = entry.get("mask")
        mask = long_polygons(mask) if isinstance(mask, list) else mask
        if mask and mask_problem(mask, image) is None:
            objects[-1]["segmentation"] = mask
    return objects
