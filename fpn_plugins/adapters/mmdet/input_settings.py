"""Read the size of images and the classes from mmdet's configs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import DATASETS

from ...data.coco_folder import known_ids
from ...extras import quiet_imports
from ...inference import InputSettings, Padding, ResizeRule
from .pixels import reader_of


def settings_of(cfg: Any) -> InputSettings:
    """Read the settings of a config's test data, or of its validation data if it has none.

    Raises:
        ValueError: mmdet's own reader is told to read other than colors, which is not followed here.
    """
    dataset = _dataset(cfg)
    pipeline = dataset.get("pipeline") or cfg.get("test_pipeline")
    _check_colors(pipeline or [])
    rule, obstacle = None, ""
    try:
        rule = _rule(pipeline) if pipeline else None
    except ValueError as error:
        obstacle = str(error)
    classes = _classes(dataset)
    ann_file = os.path.join(dataset.get("data_root") or "", dataset.get("ann_file") or "")
    return InputSettings(rule, classes, known_ids(ann_file, classes), obstacle, reader_of(pipeline or []))


def _check_colors(pipeline: Sequence[Mapping[str, Any]]) -> None:
    for step in pipeline:
        kind = step.get("color_type", "color")
        if str(step["type"]).endswith("LoadImageFromFile") and kind != "color":
            raise ValueError(
                f"the test pipeline has LoadImageFromFile(color_type={kind!r}), and images are read as 'color' here; "
                "read other images by fpn_plugins.LoadImage(in_chans=...)"
            )


def _dataset(cfg: Any) -> Mapping[str, Any]:
    """Return the config of the test data; of several sets, the first one's."""
    loaders = [cfg.get(name) or {} for name in ("test_dataloader", "val_dataloader")]
    dataset: Any = next((loader["dataset"] for loader in loaders if loader.get("dataset")), {})
    while isinstance(dataset, Mapping) and "dataset" in dataset:  # a wrapper
        dataset = dataset["dataset"]
    if isinstance(dataset, Mapping) and dataset.get("datasets"):
        dataset = dataset["datasets"][0]
    return dataset if isinstance(dataset, Mapping) else {}


def _classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in the data set's ``metainfo``, or else those of its class; of a panoptic one, the things'."""
    classes = _things(dataset.get("metainfo") or {})
    if not classes and (kind := dataset.get("type")):
        with quiet_imports():
            found = DATASETS.get(kind) if isinstance(kind, str) else kind
        classes = _things(getattr(found, "METAINFO", {}))
    names = [classes] if isinstance(classes, str) else classes or ()
    return tuple(map(str, names))


def _things(metainfo: Mapping[str, Any]) -> Any:
    return metainfo.get("thing_classes") or metainfo.get("classes")


def _rule(pipeline: Sequence[Mapping[str, Any]]) -> ResizeRule:
    """Translate the steps of a test pipeline; ``ValueError`` for one that has no translation."""
    rule = ResizeRule(None, library="opencv")
    for step in pipeline:
        kind = step["type"]
        name = kind.split(".")[-1] if isinstance(kind, str) else kind.__name__
        if name.startswith(("Load", "Pack")):
            continue
        translate = _STEPS.get(name)
        if translate is None or rule.padding is not None:
            raise ValueError(f"the test pipeline has the step {name!r} {'after Pad' if translate else ''}".rstrip())
        rule = translate(rule, step)
    return rule


def _resize(rule: ResizeRule, step: Mapping[str, Any]) -> ResizeRule:
    scale = step.get("scale")
    if scale is None or rule.short is not None or rule.exact is not None:
        raise ValueError("the test pipeline resizes twice, or by a factor")
    sides = (scale, scale) if isinstance(scale, int) else tuple(scale)
    if not step.get("keep_ratio", False):
        return ResizeRule(None, exact=(int(sides[1]), int(sides[0])), library=_library(step))
    return ResizeRule(int(min(sides)), int(min(max(sides), 2**31)), library=_library(step))


def _library(step: Mapping[str, Any]) -> str:
    """Return the library by which a step resizes; ``ValueError`` for another interpolation than the bilinear one."""
    interpolation = step.get("interpolation", "bilinear")
    if interpolation != "bilinear":
        raise ValueError(f"the test pipeline resizes with interpolation={interpolation!r}, not 'bilinear'")
    return "pillow" if step.get("backend") == "pillow" else "opencv"


def _resize_shortest_edge(rule: ResizeRule, step: Mapping[str, Any]) -> ResizeRule:
    scale, limit = step["scale"], int(step.get("max_size") or 2**31)
    short = int(scale if isinstance(scale, int) else min(scale))
    return ResizeRule(min(short, limit), limit, library=_library(step))


def _pad(rule: ResizeRule, step: Mapping[str, Any]) -> ResizeRule:
    size, value = step.get("size"), step.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, Mapping) else value
    blue, green, red = value if isinstance(value, Sequence) else (value,) * 3
    padding = Padding(
        size=None if size is None else (int(size[1]), int(size[0])),
        square=bool(step.get("pad_to_square", False)),
        divisor=int(step.get("size_divisor") or 1),
        value=(red, green, blue),
    )
    return ResizeRule(rule.short, rule.long, rule.exact, rule.library, padding)


_STEPS = {"Resize": _resize, "ResizeShortestEdge": _resize_shortest_edge, "Pad": _pad}
