"""Undo what wrappers do to the keys of a state dict: prefixes of all keys, segments inside them, averaged copies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from torch import Tensor

logger = logging.getLogger("fpn_plugins")

# attributes under which wrappers hold the model: DataParallel and AveragedModel, torch.compile, Lightning, EMA classes
WRAPPERS = frozenset(
    ("module", "_orig_mod", "model", "ema", "ema_model", "model_ema", "student", "teacher", "_forward_module")
)
# PyTorch's private names of wrappers, which no model uses for a layer, so they are removed anywhere in a key
_PRIVATE = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
# counters of averaged models (PyTorch's, mmengine's), which stand beside the wrapped model
_COUNTERS = frozenset(("n_averaged", "steps"))


def strip_wrappers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the keys that the model has outside of its wrappers.

    Removed are: chains of `WRAPPERS` common to all keys (``module.``, ``ema.module.``), PyTorch's private names
    anywhere in a key (``_orig_mod.``), and the averaged copies of mmdet 2.x (``ema_backbone_conv1_weight`` beside
    ``backbone.conv1.weight``), with a note in the log. Other prefixes, such as ``backbone.``, stay.

    Raises:
        ValueError: two keys become the same.
    """
    keys = {key: ".".join(part for part in key.split(".") if part not in _PRIVATE) for key in state_dict}
    while wrapped := _common_wrapper([key for key in keys.values() if key not in _COUNTERS]):
        keys = {old: new.removeprefix(wrapped) for old, new in keys.items() if new not in _COUNTERS}
    copies = _averaged_copies(set(keys.values()))
    if copies:
        logger.info("dropped %d averaged copies of mmdet 2.x: %s, ...", len(copies), min(copies))
    stripped: dict[str, Tensor] = {}
    for old, new in keys.items():
        if new in stripped:
            raise ValueError(f"two keys of the state dict become {new!r}, the second is {old!r}; keep one of them")
        if new not in copies:
            stripped[new] = state_dict[old]
    return stripped


def _common_wrapper(keys: list[str]) -> str:
    """Return the first segment of all keys, with its dot, if it is a wrapper's; else an empty string."""
    first = {key.partition(".")[0] if "." in key else "" for key in keys}
    name = first.pop() if len(first) == 1 else ""
    return f"{name}." if name in WRAPPERS else ""


def _averaged_copies(keys: set[str]) -> set[str]:
    """Select the keys ``ema_`` + a key of the model with underscores for dots."""
    return keys & {f"ema_{key.replace('.', '_')}" for key in keys}


def restore_wrappers(state_dict: Mapping[str, Tensor], wanted: Iterable[str]) -> Mapping[str, Tensor]:
    """Undo `strip_wrappers` for a module whose own keys have such a prefix, as one that keeps its network as ``model``.

    Args:
        state_dict: stripped keys.
        wanted: the module's keys.

    Returns:
        The dict with the prefix, or unchanged if the module does not have all of its keys with the prefix.
    """
    prefix, rest = "", list(wanted)
    while wrapped := _common_wrapper(rest):
        prefix, rest = prefix + wrapped, [key.removeprefix(wrapped) for key in rest]
    return {prefix + key: value for key, value in state_dict.items()} if set(state_dict) <= set(rest) else state_dict
