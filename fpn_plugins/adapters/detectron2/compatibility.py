"""Read the settings of a built Detectron2 detector that its weights do not contain."""

from __future__ import annotations

from typing import Any

from detectron2.modeling.backbone.fpn import LastLevelP6P7
from torch import Tensor

from ...conversion.compatibility import DetectorFacts, num_ratios, roi_align_settings, stride_in_1x1
from ...necks.extra_levels import ConvLevels


def detector_facts(model: Any) -> DetectorFacts:
    """Collect the facts of a ``GeneralizedRCNN``, ``PanopticFPN`` or ``RetinaNet``.

    Raises:
        ValueError: a detector without anchors, whose weights cannot be converted.
    """
    dense: Any = getattr(model, "proposal_generator", None) or model
    generator: Any = getattr(dense, "anchor_generator", None)
    if not hasattr(generator, "cell_anchors"):
        raise ValueError(
            f"{type(model).__name__} has no anchors; supported are GeneralizedRCNN, PanopticFPN and RetinaNet"
        )
    coder: Any = getattr(dense, "box2box_transform", None)
    return DetectorFacts(
        channel_order=channel_order(model),
        pixel_mean=tuple(model.pixel_mean.flatten().tolist()),
        pixel_std=tuple(model.pixel_std.flatten().tolist()),
        num_classes=num_classes(model),
        strides=tuple(int(stride) for stride in generator.strides),
        anchors=tuple(_ratio_major(level.cpu()) for level in generator.cell_anchors),
        num_ratios=num_ratios(next(iter(generator.cell_anchors))),
        box_weights=tuple(tuple(map(float, entry.weights)) for entry in (coder, *_box_coders(model))),
        pooling=_pooling(getattr(model, "roi_heads", None)),
        stride_in_1x1=stride_in_1x1(model.backbone),
        relu_before_p7=_relu_before_p7(model.backbone),
    )


def channel_order(model: Any) -> str:
    """Return ``"RGB"`` or ``"BGR"``; without an ``input_format``, Detectron2's default is BGR.

    Raises:
        ValueError: another format, in which only Detectron2's own scripts read images.
    """
    order = str(getattr(model, "input_format", None) or "BGR")
    if order not in ("BGR", "RGB"):
        raise ValueError(
            f"input_format={order!r} (INPUT.FORMAT) must be 'RGB' or 'BGR' here; read other images by "
            "INPUT.FPN_PLUGINS, with the format RGB"
        )
    return order


def num_classes(model: Any) -> int:
    """Return the number of thing classes; ``ValueError`` if no head has ``num_classes``."""
    found = getattr(getattr(model, "roi_heads", model), "num_classes", None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no head with num_classes")
    return int(found)


def _ratio_major(anchors: Tensor) -> Tensor:
    """Reorder from Detectron2's size-major to ratio-major."""
    return anchors.unflatten(0, (-1, num_ratios(anchors))).transpose(0, 1).flatten(0, 1)


def _box_coders(model: Any) -> list[Any]:
    predictors = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    if predictors is None:
        return []
    return [entry.box2box_transform for entry in (predictors if hasattr(predictors, "__len__") else [predictors])]


def _pooling(roi_heads: Any) -> tuple[tuple[int, int, bool], ...]:
    poolers: list[Any] = [getattr(roi_heads, name, None) for name in ("box_pooler", "mask_pooler")]
    return tuple(roi_align_settings(pooler.level_poolers[0]) for pooler in poolers if pooler is not None)


def _relu_before_p7(backbone: Any) -> bool | None:
    extra = getattr(getattr(backbone, "neck", None), "extra_levels", None)
    if isinstance(extra, ConvLevels):
        return extra.relu if len(extra.convs) > 1 else None
    return True if isinstance(getattr(backbone, "top_block", None), LastLevelP6P7) else None
