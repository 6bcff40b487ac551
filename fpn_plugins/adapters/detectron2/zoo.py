"""Load published models of the zoo into Detectron2 by name."""

from __future__ import annotations

from torch import nn

from ...moved import explain_moved_names
from ...zoo import Zoo
from .detector import load

__getattr__ = explain_moved_names(__name__)


def load_published(name: str, zoo: Zoo | None = None, device: str = "cpu") -> nn.Module:
    """Load a published model in evaluation mode; arguments and errors are those of mmdet's `load_published`."""
    zoo = zoo or Zoo.read()
    return load(zoo.config(name, "detectron2"), str(zoo.checkpoint(name, "detectron2")), device=device)
