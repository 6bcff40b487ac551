"""Check the data sets of an mmdet config before training or testing starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.config import Config

from ...data import CocoReport, check_coco
from .arguments import Cfg

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def check_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[CocoReport]:
    """Check every COCO-format data set of a config, each once; other data sets are skipped.

    Args:
        cfg: a complete mmdet config.
        loaders: keys of the data loaders to check.

    Returns:
        One report per annotation file.

    Raises:
        FileNotFoundError: the annotation file or images are missing.
        ValueError: not a COCO file, different classes in the config and in the file, or heads whose number of classes
            differs from the data set's.
    """
    reports: dict[Path, CocoReport] = {}
    for loader in loaders:
        for dataset in _coco_datasets((cfg.get(loader) or {}).get("dataset")):
            ann_file, image_dir = _paths(dataset)
            if dataset.get("backend_args") or "://" in str(dataset["ann_file"]):
                continue  # on a server that only mmengine can read
            classes = _check_classes(dataset, cfg.get("model", {}))
            if ann_file not in reports:
                annotated = loader != "test_dataloader"  # COCO's test images have no annotations
                reports[ann_file] = _check_one(ann_file, image_dir, dataset, classes, annotated)
    return list(reports.values())


def _coco_datasets(dataset: Cfg | None) -> Iterator[Cfg]:
    """Find the COCO data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if not dataset:
        return
    if dataset["type"] in ("CocoDataset", "mmdet.CocoDataset", CocoDataset):
        yield dataset
    inner = [dataset.get("dataset"), *(dataset.get("datasets") or [])]
    for entry in inner:
        yield from _coco_datasets(entry)


def _paths(dataset: Cfg) -> tuple[Path, Path]:
    root = Path(dataset.get("data_root") or "")
    return root / dataset["ann_file"], root / (dataset.get("data_prefix") or {}).get("img", "")


def _check_classes(dataset: Cfg, model: Cfg) -> tuple[str, ...]:
    """Return the classes that the data set will use; raise if the model's heads have another number."""
    classes = tuple(CocoDataset._load_metainfo(dataset.get("metainfo"))["classes"])  # mmdet reads them from files too
    if "language_model" in model:
        return classes  # its heads count words
    wrong = {name: number for name, number in _head_classes(model) if number != len(classes)}
    if wrong:
        raise ValueError(
            f"the data set has {len(classes)} classes {_short(classes)}, but {wrong} differ; set the heads' "
            f"num_classes={len(classes)}, or the data set's metainfo=dict(classes=(...)) to the model's classes"
        )
    return classes


def _head_classes(node: Any, path: str = "model") -> Iterator[tuple[str, int]]:
    """Find ``num_classes`` of every box and mask head of a model config, with its path."""
    if isinstance(node, (list, tuple)):
        for index, entry in enumerate(node):
            yield from _head_classes(entry, f"{path}[{index}]")
    elif hasattr(node, "items"):
        if path.split(".")[-1].split("[")[0] in ("bbox_head", "mask_head") and "num_classes" in node:
            yield f"{path}.num_classes", node["num_classes"]
        for key, entry in node.items():
            yield from _head_classes(entry, f"{path}.{key}")


def _check_one(ann_file: Path, image_dir: Path, dataset: Cfg, classes: tuple[str, ...], annotated: bool) -> CocoReport:
    """Check one file; mmdet silently drops categories outside ``classes``, which is intended only for a subset."""
    chosen = bool((dataset.get("metainfo") or {}).get("classes"))
    report = check_coco(ann_file, image_dir, None if chosen else classes, annotated=annotated)
    in_file = [name for name in report.per_category if name in classes]
    absent = [name for name in classes if name not in in_file]
    if absent:
        raise ValueError(
            f"metainfo classes {_short(absent)} are not in {str(ann_file)!r}, which has "
            f"{_short(tuple(report.per_category))}; correct the data set's metainfo"
        )
    if list(classes) != in_file:
        raise ValueError(
            f"metainfo classes {_short(classes)} are in another order in {str(ann_file)!r}, {_short(in_file)}; mmdet "
            "numbers labels by the file, so names would be swapped: list metainfo classes in the file's order"
        )
    return report


def _short(names: Sequence[str]) -> str:
    return "(" + ", ".join(names[:6]) + (f", ... {len(names)} in all)" if len(names) > 6 else ")")
