"""State-dict keys of registered necks: published checkpoints depend on them, so a change needs a key map."""

from __future__ import annotations

from registered import build_neck


def conv_keys(*names: str) -> set[str]:
    """Keys of convolutions without a norm, by the names of their `ConvNormAct`."""
    return {f"{name}.conv.{part}" for name in names for part in ("weight", "bias")}


def normed_keys(*names: str) -> set[str]:
    """Keys of convolutions with batch norm, by the names of their `ConvNormAct`."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{name}.{part}" for name in names for part in ("conv.weight", *(f"norm.{key}" for key in norm))}


# FPN with default arguments on four maps
FPN_KEYS = conv_keys(*(f"{kind}_convs.{i}" for kind in ("lateral", "output") for i in range(4)))


def assert_pinned(name: str, keys: set[str]) -> None:
    """Check the state-dict keys of a neck with its card's example arguments."""
    assert set(build_neck(name).state_dict()) == keys
