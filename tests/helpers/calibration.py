"""Detectors with random weights whose detections can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SPREAD = {  # standard deviation of what the predictors give: scores that differ, boxes near their anchors
    **dict.fromkeys(
        ("rpn_cls", "retina_cls", "fc_cls", "objectness_logits", "cls_score", "conv_logits", "predictor"), 2.0
    ),
    **dict.fromkeys(("rpn_reg", "retina_reg", "fc_reg", "anchor_deltas", "bbox_pred"), 0.3),
}


def draw(model: Any) -> Any:
    """Random weights, and statistics that keep the maps of a random ResNet within bounds."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.fill_(4.0)
    return model.eval()


def calibrate(model: Any, detect: Callable[[Any], Any], image: Any) -> None:
    """Scale the predictors, in the order in which ``detect(image)`` runs them, so that outputs tell things apart."""
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
