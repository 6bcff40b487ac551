"""Record the maps of a detector's backbone and neck, and the pyramid level of each object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import log2
from typing import Any

from torch import Tensor, nn

from ..data import fpn_level, retinanet_level
from ..features import level_names
from ..pyramid import Pyramid

# letters of backbone maps (c2) and pyramid maps (p2)
_PREFIXES = {"backbone": "c", "neck": "p"}


@dataclass
class LevelMaps:
    """Maps of the last forward pass, of its first image.

    Attributes:
        rows: ``"backbone"`` or ``"neck"`` -> level name -> map ``C H W``.
        input_size: height and width of the images that the backbone got, in pixels, padding included.
    """

    rows: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    input_size: tuple[int, int] = (0, 0)

    def covered_size(self, image_size: Sequence[int], resized: Sequence[int]) -> tuple[float, float]:
        """Return the height and width that the maps cover, in pixels of the image.

        Args:
            image_size: height and width of the image.
            resized: the same after resizing, without padding.
        """
        height, width = (
            side * padded / inner for side, padded, inner in zip(image_size, self.input_size, resized, strict=True)
        )
        return height, width


@contextmanager
def record_levels(detector: Any) -> Iterator[LevelMaps]:
    """Record the maps of a detector's backbone and neck in each forward pass inside.

    Args:
        detector: detector of either toolbox, or any module with a ``backbone`` that is a `Pyramid`, has a ``bottom_up``
            network (Detectron2), or stands next to a ``neck`` (MMDetection). Modules may return a map, several, or a
            mapping with names.

    Raises:
        ValueError: ``detector`` has no ``backbone``.
    """
    maps = LevelMaps()
    parts = _parts(detector)

    def note_size(module: nn.Module, inputs: Any) -> None:
        maps.input_size = tuple(inputs[0].shape[-2:])

    def record(part: str, names: Sequence[str], module: nn.Module, inputs: Any, outputs: Any) -> None:
        maps.rows[part] = _named(outputs, names, _PREFIXES[part], maps.input_size)

    handles = [detector.backbone.register_forward_pre_hook(note_size)]
    for part, (module, names) in parts.items():
        handles.append(module.register_forward_hook(partial(record, part, names)))
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _parts(detector: Any) -> dict[str, tuple[nn.Module, Sequence[str]]]:
    """Return backbone and neck of a detector with the names of their maps, as far as they are known."""
    whole = getattr(detector, "backbone", None)
    if not isinstance(whole, nn.Module):
        raise ValueError(f"{type(detector).__name__} has no backbone, so that no levels can be recorded")
    if isinstance(whole, Pyramid):
        backbone, neck = whole.parts()
        specs: Any = backbone.feature_specs
        found: dict[str, tuple[nn.Module, Sequence[str]]] = {"backbone": (backbone, level_names(specs, "c"))}
        if neck is not None:
            found["neck"] = (neck, level_names(neck.out_specs(specs)))
        return found
    neck = getattr(detector, "neck", None)
    if isinstance(neck, nn.Module):
        return {"backbone": (whole, ()), "neck": (neck, ())}
    bottom_up = getattr(whole, "bottom_up", None)
    if isinstance(bottom_up, nn.Module):
        return {"backbone": (bottom_up, ()), "neck": (whole, ())}
    return {"backbone": (whole, ())}


def _named(outputs: Any, names: Sequence[str], prefix: str, input_size: Sequence[int]) -> dict[str, Tensor]:
    """Name the first image's map of each level, from the ratio of its size to the input's if need be."""
    if isinstance(outputs, Mapping):
        return {name: feature[0] for name, feature in outputs.items() if _is_map(feature)}
    maps = [outputs] if isinstance(outputs, Tensor) else [feature for feature in outputs if _is_map(feature)]
    if len(names) != len(maps) or len(set(names)) != len(names):
        names = _names_by_size(maps, prefix, input_size)
    return {name: feature[0] for name, feature in zip(names, maps, strict=True)}


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4


def _names_by_size(maps: Sequence[Tensor], prefix: str, input_size: Sequence[int]) -> list[str]:
    names: list[str] = []
    level, cells = -1, 0
    for feature in maps:
        size = feature.shape[-2] * feature.shape[-1]
        stride = (input_size[0] * input_size[1] / size) ** 0.5
        level = max(round(log2(stride)), level + 1 if size < cells else -1)
        cells = size
        same = sum(name.split(" ")[0] == f"{prefix}{level}" for name in names)
        names.append(f"{prefix}{level}" + f" ({same + 1})" * bool(same))
    return names


def assign_levels(objects: Sequence[dict[str, Any]], scales: Sequence[float], one_stage: bool) -> None:
    """Set each object's ``level`` by RetinaNet's rule (``one_stage``) or FPN's.

    Args:
        objects: objects in COCO's format.
        scales: factors by which the image's width and height are resized.
        one_stage: whether the detector is a RetinaNet.
    """
    rule: Any = retinanet_level if one_stage else fpn_level
    for entry in objects:
        width, height = (max(side * scale, 1e-3) for side, scale in zip(entry["bbox"][2:], scales, strict=True))
        entry["level"] = f"p{int(rule(width, height))}"


def is_one_stage(detector: nn.Module) -> bool:
    """Return whether a detector of either toolbox has no heads for regions."""
    return not any(hasattr(detector, name) for name in ("roi_head", "roi_heads"))
