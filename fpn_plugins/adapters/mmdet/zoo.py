"""Load published models of the zoo into MMDetection by name."""

from __future__ import annotations

from torch import nn

from ...moved import explain_moved_names
from ...zoo import Zoo
from .detector import load

__getattr__ = explain_moved_names(__name__)


def load_published(name: str, zoo: Zoo | None = None, device: str = "cpu") -> nn.Module:
    """Load a published model, in evaluation mode, ready for mmdet's ``inference_detector``.

    Args:
        name: name of the model.
        zoo: zoo that lists it; ``None`` reads the packaged one, see `Zoo.read`.
        device: device of the model.

    Raises:
        ValueError: no such model, no weights published for this toolbox, or weights that do not fit the config.
    """
    zoo = zoo or Zoo.read()
    return load(zoo.config(name, "mmdet"), str(zoo.checkpoint(name, "mmdet")), device=device)
