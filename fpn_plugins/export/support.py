"""Refuse what cannot be exported, with the module's name and the limit that it meets."""

from __future__ import annotations

from typing import Any

from torch import nn

# every limit of whole detectors, by the part that meets it; docs/guides/deploy.md has the same table
LIMITS = {
    "detectors": "the graph computes RetinaNet, Faster, Mask and Cascade (Mask) R-CNN and Panoptic FPN alone",
    "heads": "the graph repeats the predictions of the toolboxes' own heads for these detectors, not of changed ones",
    "layers": "other engines lack the operators of mmcv and Detectron2; choose another layer in the config",
    "boxes": "the graph has the toolboxes' default anchors and offsets alone",
    "scores": "the graph has softmax or sigmoid alone, without classes or activations of a loss",
    "selection": "the graph suppresses by plain NMS among a limited number of candidates, without soft NMS",
    "regions": "the graph samples regions by averaging RoIAlign from one level each, without a shared head",
    "masks": "the graph has the masks of Mask R-CNN's heads alone, as probabilities or cut at a threshold",
    "keypoints": "the graph has no keypoints",
    "panoptic": "the graph has the semantic head and the merging of Panoptic FPN alone",
    "pixels": "the graph normalizes by a mean and a standard deviation per channel, and pads",
}


def refusal(module: Any, limit: str, reason: str) -> ValueError:
    """Return the error for a module that cannot be exported; ``limit`` is a key of `LIMITS`."""
    return ValueError(f"{type(module).__name__} cannot be exported: {reason}; {LIMITS[limit]}")


def require_inherited(module: Any, limit: str, base: type, *methods: str) -> None:
    """Raise `refusal` unless a module is a ``base`` and computes ``methods`` as ``base`` does."""
    if not isinstance(module, base):
        raise refusal(module, limit, f"it is not a {base.__name__}")
    for name in methods:
        if getattr(type(module), name) is not getattr(base, name):
            raise refusal(module, limit, f"it computes {name} differently from {base.__name__}")


def require(module: Any, limit: str, setting: str, condition: bool) -> None:
    """Raise `refusal` unless ``condition`` holds; ``setting`` says what it requires."""
    if not condition:
        raise refusal(module, limit, f"it needs {setting}")


def refuse_operators(detector: nn.Module, libraries: tuple[str, ...]) -> None:
    """Raise ``ValueError`` if a layer is one of ``libraries``, whose own operators no other engine has."""
    for name, layer in detector.named_modules():
        if type(layer).__module__.startswith(libraries):
            library = type(layer).__module__.split(".")[0]
            kind = type(layer).__name__
            raise ValueError(f"{name} cannot be exported: {kind} computes an operator of {library}; {LIMITS['layers']}")
