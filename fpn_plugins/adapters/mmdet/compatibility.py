"""Read the settings of a built mmdet detector that its weights do not contain."""

from __future__ import annotations

from typing import Any

from ...conversion.compatibility import DetectorFacts, num_ratios, roi_align_settings, stride_in_1x1
from ...necks.extra_levels import ConvLevels


def detector_facts(model: Any) -> DetectorFacts:
    """Collect the facts of an mmdet detector with anchors: two-stage, cascade, RetinaNet, Panoptic FPN.

    Raises:
        ValueError: a detector without anchors, whose weights cannot be converted, or without mean and std of pixels.
    """
    dense: Any = getattr(model, "rpn_head", None) or getattr(model, "bbox_head", None)
    generator: Any = getattr(dense, "prior_generator", None)
    if not hasattr(generator, "base_anchors"):
        raise ValueError(
            f"{type(model).__name__} has no anchors; supported are Faster, Mask and Cascade R-CNN and RetinaNet"
        )
    pixels, stages = model.data_preprocessor, _box_heads(model)
    if not hasattr(pixels, "mean"):
        raise ValueError(
            f"{type(model).__name__} does not normalize pixels; set data_preprocessor=dict(type='mmdet."
            "DetDataPreprocessor', mean=..., std=...) in the config"
        )
    return DetectorFacts(
        channel_order=channel_order(pixels),
        pixel_mean=tuple(pixels.mean.flatten().tolist()),
        pixel_std=tuple(pixels.std.flatten().tolist()),
        num_classes=num_classes(model),
        strides=tuple(int(stride[0]) for stride in generator.strides),
        anchors=tuple(level.cpu() for level in generator.base_anchors),
        num_ratios=num_ratios(generator.base_anchors[0]),
        box_weights=tuple(tuple(1 / float(std) for std in head.bbox_coder.stds) for head in (dense, *stages)),
        pooling=_pooling(getattr(model, "roi_head", None)),
        stride_in_1x1=stride_in_1x1(model.backbone),
        relu_before_p7=_relu_before_p7(model),
    )


def num_classes(model: Any) -> int:
    """Return the number of thing classes; ``ValueError`` if no head has ``num_classes``."""
    heads = [*_box_heads(model), getattr(model, "bbox_head", None)]
    found = next((head.num_classes for head in heads if hasattr(head, "num_classes")), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no box head with num_classes")
    return int(found)


def channel_order(pixels: Any) -> str:
    """Return the network's input order: mmdet reads colors as BGR, and the preprocessor may swap these channels."""
    return "RGB" if pixels._channel_conversion or pixels.mean.numel() != 3 else "BGR"


def _box_heads(model: Any) -> list[Any]:
    heads = getattr(getattr(model, "roi_head", None), "bbox_head", None)
    return [] if heads is None else list(heads) if hasattr(heads, "__len__") else [heads]


def _pooling(roi_head: Any) -> tuple[tuple[int, int, bool], ...]:
    extractors = [getattr(roi_head, name, None) for name in ("bbox_roi_extractor", "mask_roi_extractor")]
    firsts = [each[0] if hasattr(each, "__len__") else each for each in extractors if each is not None]
    return tuple(roi_align_settings(extractor.roi_layers[0]) for extractor in firsts)


def _relu_before_p7(model: Any) -> bool | None:
    neck: Any = model.neck if getattr(model, "neck", None) is not None else getattr(model.backbone, "neck", None)
    extra = getattr(neck, "extra_levels", None)
    if isinstance(extra, ConvLevels):
        return extra.relu if len(extra.convs) > 1 else None
    if getattr(neck, "add_extra_convs", False) and len(neck.fpn_convs) > len(neck.lateral_convs) + 1:
        return bool(neck.relu_before_extra_convs)
    return None
