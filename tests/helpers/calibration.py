"""Detectors with random weights whose detections can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

SPREAD = {  # standard deviation of what the predictors give: scores that differ, boxes near their anchors
    **dict.fromkeys(
        ("rpn_cls", "retina_cls", "fc_cls", "objectness_logits", "cls_score", "conv_logits", "predictor"), 2.0
    ),
    **dict.fromkeys(("rpn_reg", "retina_reg", "fc_reg", "anchor_deltas", "bbox_pred"), 0.3),
}


def calibrate(model: Any, detect: Callable[[np.ndarray], Any], image: np.ndarray) -> None:
    """Scale the predictors, in the order in which they run, so that their outputs tell detections apart."""
    scaled = set()

    def scale(layer: Any, inputs: Any, output: Tensor, spread: float) -> Tensor:
        if layer in scaled:  # by the first level
            return output
        scaled.add(layer)
        factor = spread / output.std().clamp(min=1e-6)
        layer.weight.data.mul_(factor)
        return output * factor

    names = {name: SPREAD.get(name.split(".")[-1]) for name, _ in model.named_modules()}
    layers = [(model.get_submodule(name), spread) for name, spread in names.items() if spread]
    hooks = [
        layer.register_forward_hook(lambda m, x, y, spread=spread: scale(m, x, y, spread))
        for layer, spread in layers
        if hasattr(layer, "weight")
    ]
    detect(image)
    for hook in hooks:
        hook.remove()
