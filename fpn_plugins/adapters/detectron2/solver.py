"""Set learning rates by part or by layer with Detectron2's ``get_default_optimizer_params(lr_factor_func=...)``."""

from __future__ import annotations

from typing import Any

from detectron2.solver import get_default_optimizer_params
from torch import nn

from ...training import layer_lr_factors


def bottom_up_lr_factor(name: str, factor: float) -> float:
    """Return a parameter's learning-rate factor: ``factor`` inside the pretrained ``bottom_up``, else 1.

    Args:
        name: parameter name in the detector, e.g. ``backbone.bottom_up.model.conv1.weight``.
        factor: learning rate of ``bottom_up`` relative to the rest.
    """
    return factor if ".bottom_up." in f".{name}" else 1.0


def get_layer_decay_params(
    model: nn.Module, decay: float, num_layers: int | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Make Detectron2's parameter groups with layer-wise learning rates, for any backbone whose layers are known.

    In a LazyConfig, it replaces ``get_default_optimizer_params``::

        optimizer.params = L(get_layer_decay_params)(decay=0.8, base_lr=optimizer.lr, weight_decay_norm=0.0)

    Args:
        model: detector.
        decay: factor between adjacent layers; see `fpn_plugins.training.layer_lr_factors` for this and the next one.
        num_layers: number of layers, checked.
        **options: arguments of ``get_default_optimizer_params`` besides ``lr_factor_func``; ``base_lr`` is needed.

    Raises:
        ValueError: a backbone whose layers are not known, or that has another number of layers.
    """
    factors = layer_lr_factors(model, decay, num_layers)
    groups: list[dict[str, Any]] = get_default_optimizer_params(
        model, lr_factor_func=lambda name: factors[name.removeprefix(".")], **options
    )
    return groups
