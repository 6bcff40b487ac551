"""Refuse what cannot be exported, with the module's name and what can."""

from __future__ import annotations

from typing import Any

from torch import nn

KINDS = "RetinaNet, Faster, Mask and Cascade (Mask) R-CNN and Panoptic FPN"


def refusal(module: Any, reason: str) -> ValueError:
    """Return the error for a module that cannot be exported."""
    return ValueError(f"{type(module).__name__} cannot be exported: {reason}; exportable are {KINDS}")


def require_inherited(module: Any, base: type, *methods: str) -> None:
    """Raise `refusal` unless a module is a ``base`` and computes ``methods`` as ``base`` does."""
    if not isinstance(module, base):
        raise refusal(module, f"it is not a {base.__name__}")
    for name in methods:
        if getattr(type(module), name) is not getattr(base, name):
            raise refusal(module, f"it computes {name} differently from {base.__name__}")


def require(module: Any, setting: str, condition: bool) -> None:
    """Raise `refusal` unless ``condition`` holds; ``setting`` says what it requires."""
    if not condition:
        raise refusal(module, f"it needs {setting}")


def refuse_operators(detector: nn.Module, libraries: tuple[str, ...]) -> None:
    """Raise ``ValueError`` if a layer is one of ``libraries``, whose own operators no other engine has."""
    for name, layer in detector.named_modules():
        if type(layer).__module__.startswith(libraries):
            library = type(layer).__module__.split(".")[0]
            raise ValueError(
                f"{name} cannot be exported: {type(layer).__name__} computes an operator of {library} that other "
                "engines lack; choose another layer in the config"
            )
