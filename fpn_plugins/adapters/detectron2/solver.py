"""Set learning rates by part for Detectron2's ``get_default_optimizer_params(lr_factor_func=...)``."""

from __future__ import annotations


def bottom_up_lr_factor(name: str, factor: float) -> float:
    """Return a parameter's learning-rate factor: ``factor`` inside the pretrained ``bottom_up``, else 1.

    Args:
        name: parameter name in the detector, e.g. ``backbone.bottom_up.model.conv1.weight``.
        factor: learning rate of ``bottom_up`` relative to the rest.
    """
    return factor if ".bottom_up." in f".{name}" else 1.0
