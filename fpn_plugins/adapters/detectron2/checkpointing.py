"""Let Detectron2's checkpointer resize tables of this package's modules, as ``load_state_dict`` does.

fvcore's ``Checkpointer``, the base of ``DetectionCheckpointer``, removes all tensors whose shape differs from the
model's before it calls ``load_state_dict``, so no hook of a module sees them: tables of a Swin with other windows or of
a ViT for other images would keep their initial values. `fit_before_shapes_are_compared` runs this package's hooks
first, and makes an error of shapes that still differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import wraps
from typing import Any

from fvcore.common.checkpoint import Checkpointer, _strip_prefix_if_present
from torch import Tensor, nn

from ...backbones.base import Backbone
from ...necks import PyramidNeck
from ...weights.layouts import PARTIAL_LOAD, LoadHook
from ...weights.shapes import check_shapes

_REMEDY = (
    "Detectron2 would leave them as they were initialized: build the module as it was trained, or set the environment "
    f"variable {PARTIAL_LOAD}=1 to load what fits"
)


def fit_before_shapes_are_compared() -> None:
    """Wrap fvcore's ``Checkpointer._load_model`` once; models without modules of this package load as before."""
    original = Checkpointer._load_model
    if hasattr(original, "fits_weights"):
        return

    @wraps(original)
    def load_model(self: Any, checkpoint: Any) -> Any:
        weights = checkpoint["model"]
        self._convert_ndarray_to_tensor(weights)
        _strip_prefix_if_present(weights, "module.")
        fit_weights(self.model, weights, bool(checkpoint.get("matching_heuristics")))
        return original(self, checkpoint)

    load_model.fits_weights = True  # type: ignore[attr-defined]
    Checkpointer._load_model = load_model


def fit_weights(model: nn.Module, weights: dict[str, Tensor], by_suffix: bool = False) -> None:
    """Translate and resize, in place, the weights of a model's parts that are this package's.

    Args:
        model: any model.
        weights: state dict of the model, in any layout that its parts accept.
        by_suffix: the keys of a backbone may lack its prefix: Detectron2's ``?matching_heuristics=True`` renames only
            those that have the model's shape.

    Raises:
        ValueError: weights that fit a part only in part, or tensors of another shape in a backbone or neck.
    """
    parts = {f"{name}." if name else "": module for name, module in model.named_modules()}
    if by_suffix:
        _add_prefixes(model, parts, weights)
    for prefix, module in parts.items():
        for hook in _load_hooks(module):
            hook(module, weights, prefix)
    for prefix, module in parts.items() if os.environ.get(PARTIAL_LOAD) != "1" else ():
        if isinstance(module, (Backbone, PyramidNeck)):
            check_shapes(weights, module.state_dict(prefix=prefix), _REMEDY)


def _load_hooks(module: nn.Module) -> Iterator[LoadHook]:
    for wrapped in module._load_state_dict_pre_hooks.values():
        hook = getattr(wrapped, "hook", wrapped)
        if isinstance(hook, LoadHook):
            yield hook


def _add_prefixes(model: nn.Module, parts: dict[str, nn.Module], weights: dict[str, Tensor]) -> None:
    known, children = set(model.state_dict()), {name for name, _ in model.named_children()}
    for prefix, module in parts.items():
        if isinstance(module, Backbone) and prefix:
            roots = {key.partition(".")[0] for key in module.state_dict()} - children
            for key in [key for key in weights if key.partition(".")[0] in roots and key not in known]:
                weights.setdefault(prefix + key, weights.pop(key))
