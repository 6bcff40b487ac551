"""Detectors with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def draw(model: Any) -> Any:
    """Random weights, and statistics that keep the maps of a random ResNet within bounds."""
    torch.manual_seed(0)  # whatever the seed of the run: in other draws, scores at the cut-off are equal
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.fill_(4.0)
    return model.eval()
