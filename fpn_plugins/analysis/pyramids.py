"""Count the cost of this package's backbones and necks on images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..features import FeatureSpec
from ..necks import build_neck
from ..pyramid import Pyramid
from .components import Component, neck_role
from .cost import count_cost, on_meta
from .report import CostReport

Config = str | Mapping[str, Any]


def build_pyramid(backbone: Config, neck: Config | Sequence[Mapping[str, Any]] | None) -> Pyramid:
    """Build a `Pyramid` from mappings or bare names.

    Args:
        backbone: ``{"type": name in BACKBONES, **arguments}``, or the name of a timm network, for its C2..C5.
        neck: ``{"type": name in NECKS, **arguments}``, a name for default arguments, a sequence of mappings for
            consecutive necks, or ``None``.

    Raises:
        ValueError: an unknown name, or a neck that does not fit.
    """
    if isinstance(backbone, str):
        backbone = {"type": "TimmBackbone", "name": backbone}
    return Pyramid(backbone, {"type": neck} if isinstance(neck, str) else neck)


def pyramid_cost(
    backbone: Config,
    neck: Config | Sequence[Mapping[str, Any]] | None = None,
    image_size: tuple[int, int] = (800, 1344),
    batch_size: int = 1,
    title: str | None = None,
) -> CostReport:
    """Count the cost of a backbone and a neck (see `build_pyramid`) on images of ``image_size``, height and width.

    ``None`` as the title of the report names backbone and neck.

    Raises:
        ValueError: see `build_pyramid`; also for a size below 1.
    """
    if min(*image_size, batch_size) < 1:
        raise ValueError(f"image_size={image_size}, batch_size={batch_size}: all must be at least 1")
    model = on_meta(lambda: build_pyramid(backbone, neck))
    images = torch.empty(batch_size, 3, *image_size, device="meta")

    def run() -> None:
        with torch.device("meta"):  # for tensors that forward creates without naming a device
            model(images)

    return count_cost(model, run, title or _title(backbone, neck), image_size)


def _title(backbone: Config, neck: Any) -> str:
    parts = [backbone, *([] if neck is None else [neck] if isinstance(neck, (str, Mapping)) else neck)]
    return " + ".join(part if isinstance(part, str) else str(part.get("name", part.get("type"))) for part in parts)


def neck_cost(
    neck: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    in_specs: Sequence[FeatureSpec],
    image_size: tuple[int, int] = (800, 1344),
    title: str | None = None,
) -> CostReport:
    """Count the cost of a neck alone, on maps of published shapes.

    Args:
        neck: see ``build_neck``; only the last one of consecutive necks is counted.
        in_specs: channels and strides of the backbone's maps.
        image_size: height and width in pixels; a map has ``ceil(side / stride)`` cells per side.
        title: title of the report; ``None`` is the neck's type.
    """
    *before, last = [neck] if isinstance(neck, Mapping) else list(neck)
    specs = on_meta(lambda: build_neck(before, in_specs)).out_specs(in_specs) if before else tuple(in_specs)
    module: nn.Module = on_meta(lambda: build_neck(last, specs))
    shapes = [(1, spec.channels, *(-(-side // spec.stride) for side in image_size)) for spec in specs]
    # a backbone's maps require gradients, so layers keep them for their weights' gradients
    maps = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]

    def run() -> None:
        with torch.device("meta"):
            module(maps)

    def component_of(name: str) -> Component:
        return Component("neck", neck_role(name))

    return count_cost(module, run, title or str(last["type"]), image_size, component_of)
