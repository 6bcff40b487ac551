"""Read the size of images and the classes from Detectron2's configs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import Resize, ResizeShortestEdge
from omegaconf import OmegaConf

from ...data import read_categories
from ...data.coco_folder import known_ids
from ...inference import InputSettings, ResizeRule
from .datasets import register_from_environment
from .pixels import lazy_reader, yaml_reader

_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR


def yaml_settings(cfg: CfgNode) -> InputSettings:
    """Read ``INPUT.MIN_SIZE_TEST``, ``INPUT.MAX_SIZE_TEST`` and the data set of a YAML config."""
    rule = _shortest(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return InputSettings(rule, *_categories(cfg.DATASETS.TEST), reader=yaml_reader(cfg))


def lazy_settings(cfg: Any) -> InputSettings:
    """Read ``dataloader.test`` of a LazyConfig."""
    augmentations = OmegaConf.select(cfg, "dataloader.test.mapper.augmentations")
    names = OmegaConf.select(cfg, "dataloader.test.dataset.names") or ()
    rule, obstacle = None, ""
    try:
        rule = None if augmentations is None else _rule([instantiate(entry) for entry in augmentations])
    except ValueError as error:
        obstacle = str(error)
    reader = lazy_reader(OmegaConf.select(cfg, "dataloader.test.mapper"))
    return InputSettings(rule, *_categories([names] if isinstance(names, str) else names), obstacle, reader)


def _rule(augmentations: Sequence[Any]) -> ResizeRule:
    """Translate the augmentations of a test mapper; ``ValueError`` for those that have no translation."""
    if not augmentations:
        return ResizeRule(None)
    found = augmentations[0]
    if getattr(found, "interp", _BILINEAR) != _BILINEAR:
        raise ValueError(f"the test mapper resizes with interp={found.interp}, not bilinearly")
    if len(augmentations) == 1 and isinstance(found, Resize):
        return ResizeRule(None, exact=(int(found.shape[0]), int(found.shape[1])))
    if len(augmentations) == 1 and isinstance(found, ResizeShortestEdge) and len(set(found.short_edge_length)) == 1:
        return _shortest(found.short_edge_length[0], found.max_size)
    raise ValueError(f"the test mapper has the augmentations {[type(entry).__name__ for entry in augmentations]}")


def _shortest(short: int, limit: int) -> ResizeRule:
    """Build the rule of ``ResizeShortestEdge``, for which 0 keeps the size."""
    limit = min(int(limit), 2**31)
    return ResizeRule(min(int(short), limit) or None, limit)


def _categories(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Find classes and category ids of the first data set: as registered, or in its annotation file."""
    with suppress(OSError, ValueError):  # predictions need no data
        register_from_environment()
    name = next(iter(names), None)
    if name is None or name not in MetadataCatalog.list():
        return (), ()
    metadata = MetadataCatalog.get(name)
    file, classes = metadata.get("json_file"), tuple(metadata.get("thing_classes") or ())
    with suppress(OSError, ValueError):
        classes = classes or read_categories(file or "")
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = tuple(sorted(contiguous, key=lambda number: contiguous[number]))
    return classes, ids if len(ids) == len(classes) else known_ids(file or "", classes)
