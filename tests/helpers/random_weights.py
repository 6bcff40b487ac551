"""Random weights of which none is trivial."""

from __future__ import annotations

import torch
from torch import nn


def nothing_trivial(network: nn.Module) -> nn.Module:
    """Randomize every parameter: norms and factors around 1, biases, and weights of a size that keeps the maps'."""
    with torch.no_grad():
        for key, p in network.named_parameters():
            if p.dim() == 1 and (key.endswith("weight") or "gamma" in key):
                p.uniform_(0.5, 1.5)
            elif p.dim() == 1 or "token" in key or key == "pos_embed":
                p.normal_(std=0.3)
            else:
                p.normal_(std=p[0].numel() ** -0.5)
    return network
