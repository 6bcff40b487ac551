"""Describe an exportable detector for those who run its file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..inference import PanopticRule, ResizeRule
from ..inference.engines import InputFormat, Metadata, StoredReader
from .detector import ExportableDetector


def describe(
    model: ExportableDetector,
    names: Mapping[int, str],
    rule: ResizeRule,
    config: str = "",
    dtype: str = "float32",
    inside: bool = False,
    reader: StoredReader | None = None,
) -> Metadata:
    """Collect the description of a detector.

    Args:
        model: detector that the adapters made.
        names: category id -> class name, in the order of the class indices.
        rule: rule by which images are resized.
        config: name of the config.
        dtype: type of the pixels, ``"float32"`` or ``"uint8"``.
        inside: whether the graph is to resize images.
        reader: reader of image files; ``None`` for 8-bit colors.

    Raises:
        ValueError: normalized pixels of type ``"uint8"``, or other numbers of names and classes.
    """
    found, pixels = model.settings, model.pixels
    if len(names) != found.num_classes:
        raise ValueError(f"names has {len(names)} classes, the detector {found.num_classes}; give one name per class")
    given = InputFormat(
        dtype=dtype,
        normalized=pixels.normalized,
        mean=tuple(pixels.mean.flatten().tolist()),
        std=tuple(pixels.std.flatten().tolist()),
        order=pixels.order,
        resize=rule,
        inside=inside,
        reader=reader,
    )
    return Metadata(
        classes=tuple(names.values()),
        category_ids=tuple(names),
        input=given,
        config=config,
        toolbox=found.toolbox,
        detector=found.kind,
        masks=found.masks,
        mask_threshold=found.mask_threshold,
        panoptic=None if found.panoptic is None else _rule(found.panoptic, found.toolbox),
        score_threshold=found.score_threshold,
        max_detections=found.max_detections,
        iou_threshold=found.iou_threshold,
        version=importlib.import_module(__package__.split(".")[0]).__version__,
    )


def _rule(settings: Mapping[str, Any], toolbox: str) -> PanopticRule:
    """Complete the settings of a Panoptic FPN by what its toolbox does alike in all of them."""
    mmdet = toolbox == "mmdet"
    return PanopticRule(
        num_stuff=settings["stuff"],
        first_stuff=0 if mmdet else 1,
        overlap=settings["overlap_threshold"],
        stuff_area=settings["stuff_area"],
        score=settings["score_threshold"],
        epsilon=1e-5 if mmdet else 0.0,
    )
