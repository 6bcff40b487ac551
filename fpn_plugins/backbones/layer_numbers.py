"""Number the layers of backbones for layer-wise learning rates; see `Backbone.parameter_layers`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def with_prefix(prefix: str, layers: Mapping[str, int]) -> dict[str, int]:
    """Add the name of a part to the parameters of its `Backbone.parameter_layers`."""
    return {f"{prefix}.{name}": layer for name, layer in layers.items()}


def block_layers(module: nn.Module) -> dict[str, int]:
    """Number the layers of a transformer: 0 for embeddings, ``i + 1`` for ``blocks.<i>``; others have no pre-training.

    Convolutions that detection adds to a block (``residual``) have none either.
    """
    layers = {}
    for name, _ in module.named_parameters():
        part, _, rest = name.partition(".")
        if part in ("pos_embed", "patch_embed", "cls_token", "reg_token", "norm_pre"):
            layers[name] = 0
        elif part == "blocks" and ".residual." not in name:
            layers[name] = int(rest.partition(".")[0]) + 1
    return layers
