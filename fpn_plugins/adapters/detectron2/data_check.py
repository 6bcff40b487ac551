"""Check the data sets of a Detectron2 config, and the heads of its model, before training or evaluation starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...checks import near_names
from ...data import SAMPLE, CocoReport, CocoSet, DataCheck, Head, PanopticSet, PixelReader, check_data
from ...data.environment import VARIABLE
from .pixels import lazy_reader, yaml_reader

# parts of a LazyConfig's model that predict the data set's classes, beside the model itself
_HEADS = ("head", "roi_heads", "sem_seg_head")


@dataclass(frozen=True)
class DataNeeds:
    """Data sets that a job reads, and what its model expects of them.

    Attributes:
        trained: names of the data sets for training.
        evaluated: names of the data sets for evaluation.
        heads: numbers of classes of the model's heads.
        learns_masks: whether the model learns and predicts masks.
        masks: whether masks are read.
        polygons: whether masks are read as polygons, which an RLE is not.
        reader: reader of the images; ``None`` for Detectron2's own.
    """

    trained: list[str] = field(default_factory=list)
    evaluated: list[str] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    learns_masks: bool = False
    masks: bool = False
    polygons: bool = False
    reader: PixelReader | None = None


def yaml_needs(cfg: Any, eval_only: bool = False) -> DataNeeds:
    """Read the needs from a ``CfgNode``."""
    model, kind = cfg.MODEL, cfg.MODEL.META_ARCHITECTURE
    two_stage = kind in ("GeneralizedRCNN", "PanopticFPN")
    heads = [Head("MODEL.ROI_HEADS.NUM_CLASSES", model.ROI_HEADS.NUM_CLASSES)] if two_stage else []
    if kind.endswith("RetinaNet"):
        heads = [Head("MODEL.RETINANET.NUM_CLASSES", model.RETINANET.NUM_CLASSES)]
    if kind == "PanopticFPN":
        heads.append(Head("MODEL.SEM_SEG_HEAD.NUM_CLASSES", model.SEM_SEG_HEAD.NUM_CLASSES, "stuff", extra=1))
    learns_masks = model.MASK_ON and two_stage
    trained = [] if eval_only else list(cfg.DATASETS.TRAIN)
    polygons = model.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"
    reader = yaml_reader(cfg)
    return DataNeeds(trained, list(cfg.DATASETS.TEST), heads, learns_masks, model.MASK_ON, polygons, reader)


def lazy_needs(cfg: Any, eval_only: bool = False) -> DataNeeds:
    """Read the needs from a LazyConfig."""
    model, loaders = cfg.model, cfg.get("dataloader") or {}
    mapper = (loaders.get("train") or {}).get("mapper") or {}
    learns_masks = bool((model.get("roi_heads") or {}).get("mask_head"))
    # only Detectron2's own mapper has these arguments; another one reads what its model needs
    masks = bool(mapper.get("use_instance_mask", "augmentations" not in mapper and learns_masks))
    polygons = masks and mapper.get("instance_mask_format", "polygon") == "polygon"
    names = [_names(loaders.get(part) or {}) for part in ("train", "test")]
    trained = [] if eval_only else names[0]
    heads = list(_lazy_heads(model))
    return DataNeeds(trained, names[1], heads, learns_masks, masks, polygons, lazy_reader(mapper))


def _names(loader: Any) -> list[str]:
    """Return the data set names of a loader; none if the loader reads no catalog."""
    names = (loader.get("dataset") or {}).get("names", [])
    return [names] if isinstance(names, str) else list(names)


def _lazy_heads(model: Any, path: str = "model") -> Iterator[Head]:
    """Find the numbers of classes of a model's heads; masks that are the same for all classes have one."""
    number = model.get("num_classes")
    if isinstance(number, int) and not (path.endswith("mask_head") and number == 1):
        name = f"{path}.num_classes"
        yield Head(name, number, "stuff", extra=1) if path.endswith("sem_seg_head") else Head(name, number)
    for key, entry in model.items():
        if hasattr(entry, "items") and (path != "model" or key in _HEADS):
            yield from _lazy_heads(entry, f"{path}.{key}")
        elif path != "model" and isinstance(entry, Iterable) and not isinstance(entry, str):
            for index, part in enumerate(entry):
                yield from _lazy_heads(part, f"{path}.{key}[{index}]") if hasattr(part, "items") else ()


def find_problems(needs: DataNeeds, limit: int | None = SAMPLE) -> DataCheck:
    """Check registered COCO-format data sets, instances and panoptic; other data sets are skipped.

    Args:
        needs: data sets, and what the model expects of them.
        limit: number of image files per set whose headers are read; ``None`` reads all.

    Raises:
        FileNotFoundError: an annotation file or images are missing.
        ValueError: not a COCO file.
    """
    sets = [
        source
        for names, trained in ((needs.trained, True), (needs.evaluated, False))
        for name in dict.fromkeys(names)
        for source in _sets(name, trained, needs)
    ]
    return check_data(sets, needs.heads, limit)


def check_registered(needs: DataNeeds) -> None:
    """Raise ``ValueError`` with the remedy for a data set that Detectron2's catalog does not have."""
    for name in (*needs.trained, *needs.evaluated):
        if name not in DatasetCatalog:
            ours = name.startswith(("coco_folder_", "coco_panoptic_folder_"))
            remedy = f"set {VARIABLE} to the folder of a COCO-format data set" if ours else "register it"
            near = near_names(name, DatasetCatalog.list())
            raise ValueError(f"data set {name!r} is not registered{near}; {remedy}")


def check_datasets(names: Iterable[str], num_classes: int | None = None) -> list[CocoReport]:
    """Return a report per annotation file of registered COCO-format data sets, for training and evaluating boxes.

    Args:
        names: names of the data sets; those of other formats are skipped.
        num_classes: number of classes of the model's heads, if known.

    Raises:
        FileNotFoundError: an annotation file or images are missing.
        ValueError: not a COCO file, another number of classes, or any other error that `fpn_plugins.data.check_data`
            finds.
    """
    listed = list(names)
    heads = [] if num_classes is None else [Head("num_classes", num_classes)]
    return find_problems(DataNeeds(listed, listed, heads)).require()


def _sets(name: str, trained: bool, needs: DataNeeds) -> Iterator[CocoSet | PanopticSet]:
    """Describe the annotation files of a registered data set."""
    metadata = MetadataCatalog.get(name)
    kind, json_file = metadata.get("evaluator_type"), metadata.get("json_file")
    if kind not in ("coco", "coco_panoptic_seg") or not json_file or "://" in json_file:
        return  # of another format, or on a server that only Detectron2's PathManager can read
    image_dir = Path(metadata.image_root)
    if kind == "coco_panoptic_seg":
        yield PanopticSet(
            Path(metadata.panoptic_json),
            image_dir,
            Path(metadata.panoptic_root),
            Path(metadata.sem_seg_root) if metadata.get("sem_seg_root") else None,
            Path(json_file),
            trained=trained,
            evaluated=not trained,
            toolbox="detectron2",
        )
    annotated = "test" not in re.split(r"[_\-.]", name)
    yield CocoSet(
        Path(json_file),
        image_dir if kind == "coco" else None,
        trained=trained and annotated,
        evaluated=frozenset()
        if trained or not annotated
        else frozenset({"bbox", "segm"} if needs.learns_masks else {"bbox"}),
        masks=trained and needs.masks,
        learns_masks=needs.learns_masks,
        polygons=trained and needs.polygons,
        annotated=annotated,
        toolbox="detectron2",
        reader=needs.reader,
    )
