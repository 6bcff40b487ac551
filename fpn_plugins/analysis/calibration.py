"""Detectors with random weights that find as much as trained ones, and whose detections can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

# standard deviation of what the predictors of either toolbox give: scores that differ, boxes near their anchors
SCORES = ("rpn_cls", "retina_cls", "fc_cls", "objectness_logits", "cls_score", "conv_logits", "predictor")
BOXES = ("rpn_reg", "retina_reg", "fc_reg", "anchor_deltas", "bbox_pred")
SPREAD = {**dict.fromkeys(SCORES, 2.0), **dict.fromkeys(BOXES, 0.3)}


def spread_predictions(detector: nn.Module, detect: Callable[[], object]) -> None:
    """Scale the weights of a detector's predictors so that what they give has the spread of `SPREAD`.

    Args:
        detector: one of mmdet or Detectron2; predictors are known by their names.
        detect: runs it once; each predictor is scaled when it runs first, so that the later ones see its new outputs.
    """
    scaled: set[nn.Module] = set()

    def scale(spread: float, layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if layer in scaled:  # by the first level
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
