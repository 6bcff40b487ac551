"""Rescale random predictors so that an untrained detector yields realistic, distinct detections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

# standard deviations of predictor outputs, for distinct scores and boxes near their anchors, by layer name
SCORES = ("rpn_cls", "retina_cls", "fc_cls", "objectness_logits", "cls_score", "conv_logits", "predictor")
BOXES = ("rpn_reg", "retina_reg", "fc_reg", "anchor_deltas", "bbox_pred")
SPREAD = {**dict.fromkeys(SCORES, 2.0), **dict.fromkeys(BOXES, 0.3)}


def spread_predictions(detector: nn.Module, detect: Callable[[], object]) -> None:
    """Scale a detector's predictors so that their outputs have the standard deviations of `SPREAD`.

    Args:
        detector: detector of either toolbox; predictors are recognized by name.
        detect: runs the detector once; each predictor is scaled at its first call, so later ones see its new outputs.
    """
    scaled: set[nn.Module] = set()

    def scale(spread: float, layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if layer in scaled:  # already on the first level
            return output
        scaled.add(layer)
        factor = spread / output.std().clamp(min=1e-6)
        layer.weight.data.mul_(factor)  # type: ignore[operator]
        return output * factor

    hooks = [
        layer.register_forward_hook(partial(scale, SPREAD[name.split(".")[-1]]))
        for name, layer in detector.named_modules()
        if name.split(".")[-1] in SPREAD and hasattr(layer, "weight")
    ]
    try:
        detect()
    finally:
        for hook in hooks:
            hook.remove()
