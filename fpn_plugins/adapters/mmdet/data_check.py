"""Check the data sets of an mmdet config, and the heads of its model, before training or testing starts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from ...data import SAMPLE, CocoReport, CocoSet, DataCheck, Head, PanopticSet, check_data
from .arguments import Cfg
from .pixels import check_pipeline, reader_of

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# heads that predict the data set's classes, unlike e.g. ``rpn_head`` and HTC's ``semantic_head``
_CLASS_HEADS = ("bbox_head", "mask_head", "mask_iou_head", "query_head")
_PANOPTIC_KEYS = {"num_things_classes": "things", "num_stuff_classes": "stuff"}
_READERS = ("load_data_list", "parse_data_info")  # what a subclass must not have changed


def find_problems(cfg: Config, loaders: Sequence[str] = LOADERS, limit: int | None = SAMPLE) -> DataCheck:
    """Check every COCO-format data set of a config, instances and panoptic, each once; other data sets are skipped.

    Args:
        cfg: a complete mmdet config.
        loaders: keys of the data loaders to check.
        limit: number of image files per set whose headers are read; ``None`` reads all.

    Raises:
        FileNotFoundError: an annotation file or images are missing.
        ValueError: not a COCO file, or a transform that does not take the channels of the images.
    """
    sets: list[CocoSet | PanopticSet] = []
    model = cfg.get("model", {})
    learns_masks = _has_mask_head(model)
    for loader in loaders:
        metrics = _metrics(cfg.get(loader.replace("dataloader", "evaluator")))
        for dataset, kind in _coco_datasets((cfg.get(loader) or {}).get("dataset")):
            check_pipeline(dataset.get("pipeline") or [], f"{loader}.dataset.pipeline")
            if dataset.get("backend_args") or "://" in str(dataset["ann_file"]):
                continue  # on a server that only mmengine can read
            if issubclass(kind, CocoPanopticDataset):
                sets.append(_panoptic_set(dataset, kind, loader, metrics))
            else:
                source = _coco_set(dataset, kind, loader, metrics, learns_masks)
                sets += [source, *_evaluated_elsewhere(source, metrics)]
    heads = [] if "language_model" in model else list(_heads(model))  # with one, heads count words
    return check_data(sets, heads, limit)


def check_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[CocoReport]:
    """Return a report per annotation file of instances; see `find_problems`.

    Raises:
        FileNotFoundError: an annotation file or images are missing.
        ValueError: not a COCO file, different classes in the config and in the file, heads whose number of classes
            differs from the data set's, or any other error that `fpn_plugins.data.check_data` finds.
    """
    return find_problems(cfg, loaders).require()


def _coco_datasets(dataset: Cfg | None) -> Iterator[tuple[Cfg, type[CocoDataset]]]:
    """Find the COCO data sets inside wrappers such as RepeatDataset and ConcatDataset, with their classes."""
    if not dataset:
        return
    kind = dataset["type"] if isinstance(dataset["type"], type) else DATASETS.get(dataset["type"])
    if kind is not None and issubclass(kind, CocoDataset):
        base: type[CocoDataset] = CocoPanopticDataset if issubclass(kind, CocoPanopticDataset) else CocoDataset
        if all(getattr(kind, name) is getattr(base, name) for name in _READERS):
            yield dataset, kind
    inner = [dataset.get("dataset"), *(dataset.get("datasets") or [])]
    for entry in inner:
        yield from _coco_datasets(entry)


def _metrics(evaluator: Any) -> list[Cfg]:
    """List the metrics of an evaluator's config."""
    if not evaluator:
        return []
    listed = list(evaluator) if isinstance(evaluator, (list, tuple)) else evaluator.get("metrics") or [evaluator]
    return [metric for metric in listed if not metric.get("format_only")]


def _tasks(metrics: Sequence[Cfg]) -> frozenset[str]:
    """Return the kinds of AP among COCO metrics."""
    found: set[str] = set()
    for metric in metrics:
        if str(metric.get("type")).split(".")[-1].startswith("CocoMetric"):
            names = metric.get("metric", "bbox")
            found |= {names} if isinstance(names, str) else set(names)
    return frozenset("segm" if name == "segm" else "bbox" for name in found)


def _paths(dataset: Cfg) -> tuple[Path, Path, Path]:
    """Return annotation file, image folder, and folder of segmentation maps."""
    root, prefix = Path(dataset.get("data_root") or ""), dataset.get("data_prefix") or {}
    return root / dataset["ann_file"], root / prefix.get("img", ""), root / prefix.get("seg", "")


def _transforms(dataset: Cfg) -> Iterator[Cfg]:
    """List the transforms of a data set's pipeline, and those inside RandomChoice and the like."""
    waiting = list(dataset.get("pipeline") or [])
    while waiting:
        step = waiting.pop(0)
        if isinstance(step, (list, tuple)):
            waiting = [*step, *waiting]
        elif hasattr(step, "get"):
            yield step
            waiting = [*(step.get("transforms") or []), *waiting]


def _has_mask_head(node: Any) -> bool:
    """Return whether there is a mask head in a model config."""
    if isinstance(node, (list, tuple)):
        return any(map(_has_mask_head, node))
    return hasattr(node, "items") and bool(node.get("mask_head") or any(map(_has_mask_head, node.values())))


def _coco_set(
    dataset: Cfg, kind: type[CocoDataset], loader: str, metrics: Sequence[Cfg], learns_masks: bool
) -> CocoSet:
    ann_file, image_dir, _ = _paths(dataset)
    metainfo, filters = dataset.get("metainfo") or {}, dataset.get("filter_cfg") or {}
    stock = [step for step in _transforms(dataset) if str(step.get("type")).split(".")[-1] == "LoadAnnotations"]
    loads = [step for step in _transforms(dataset) if step.get("with_mask")]
    trained = loader == "train_dataloader"
    tasks = frozenset() if trained else _tasks(metrics)
    return CocoSet(
        ann_file,
        image_dir,
        tuple(kind._load_metainfo(metainfo)["classes"]),  # mmdet reads them from files too
        subset=bool(metainfo.get("classes")),
        trained=trained,
        evaluated=tasks,
        masks=bool(loads),
        learns_masks=learns_masks if stock else None,  # an unknown transform may load masks
        polygons=any(step.get("poly2mask") is False for step in loads),
        min_side=filters.get("min_size", 0) if trained else 0,
        annotated=loader != "test_dataloader" or bool(tasks),  # COCO's test images have no annotations
        toolbox="mmdet",
        reader=reader_of(dataset.get("pipeline") or []),
    )


def _panoptic_set(dataset: Cfg, kind: type[CocoDataset], loader: str, metrics: Sequence[Cfg]) -> PanopticSet:
    classes = tuple(kind._load_metainfo(dataset.get("metainfo"))["classes"])
    evaluated = any("Panoptic" in str(metric.get("type")) for metric in metrics)
    trained = loader == "train_dataloader"
    files = _paths(dataset)
    return PanopticSet(*files, classes=classes, trained=trained, evaluated=evaluated and not trained, toolbox="mmdet")


def _evaluated_elsewhere(source: CocoSet, metrics: Sequence[Cfg]) -> Iterator[CocoSet]:
    """Describe the annotation files of COCO metrics that the data loader does not read."""
    for metric in metrics if source.evaluated else ():
        ann_file = metric.get("ann_file")
        if ann_file and "://" not in str(ann_file) and Path(ann_file).resolve() != source.ann_file.resolve():
            yield CocoSet(
                Path(ann_file),
                source.image_dir,
                source.classes,
                subset=source.subset,
                trained=False,
                evaluated=_tasks([metric]),
                toolbox="mmdet",
            )


def _heads(node: Any, path: str = "model") -> Iterator[Head]:
    """Find the numbers of classes of box, mask and panoptic heads in a model config, stated or by default."""
    if isinstance(node, (list, tuple)):
        for index, entry in enumerate(node):
            yield from _heads(entry, f"{path}[{index}]")
    elif hasattr(node, "items"):
        if path.split(".")[-1].split("[")[0] in _CLASS_HEADS and not node.get("class_agnostic"):
            number = node.get("num_classes", _default_classes(node.get("type")))
            yield from [Head(f"{path}.num_classes", number)] if number is not None else []
        for key, of in _PANOPTIC_KEYS.items():
            yield from [Head(f"{path}.{key}", node[key], of)] if key in node else []
        for key, entry in node.items():
            yield from _heads(entry, f"{path}.{key}")


def _default_classes(kind: Any) -> int | None:
    """Return the default number of classes of a registered head; ``None`` if it has no such argument or default."""
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    for base in inspect.getmro(kind) if isinstance(kind, type) else ():
        parameter = inspect.signature(base.__init__).parameters.get("num_classes")  # type: ignore[misc]
        if parameter is not None:
            return parameter.default if isinstance(parameter.default, int) else None
    return None
