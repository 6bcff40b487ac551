"""Choose backbone and neck of a recipe, and check that their levels are those of the anchors."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..analysis import on_meta
from ..backbones import TimmBackbone
from ..checks import one_of
from ..necks import NECKS, build_neck
from .anchors import Anchors

BACKBONES = {"cpu": "mobilenetv2_100", "cuda": "resnet50"}


def choose_backbone(
    name: str | None,
    weights: str | os.PathLike[str] | None,
    frozen_stages: int,
    strides: tuple[int, ...],
    device: str,
    reasons: list[Any],
) -> dict[str, Any]:
    """Choose the timm network and those of its maps that have one of the strides.

    Raises:
        FileNotFoundError: no file ``weights``.
        ValueError: an unknown network, or one without such maps.
    """
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"weights={os.fspath(weights)!r} does not exist; give a file of the backbone's weights")
    chosen = name or BACKBONES[device]
    network: Any = on_meta(lambda: TimmBackbone(chosen))
    positions = dict(zip(network.out_indices, network.feature_specs, strict=True))
    indices = [index for index, spec in positions.items() if strides[0] <= spec.stride <= strides[-1]]
    if not indices or positions[indices[0]].stride != strides[0]:
        found = [spec.stride for spec in network.feature_specs]
        raise ValueError(f"backbone={chosen!r} has maps of stride {found}, and the anchors begin at {strides[0]}")
    reasons.append(
        ("backbone", chosen, "given" if name else f"the default on a {'GPU' if device == 'cuda' else 'CPU'}")
    )
    origin = {"pretrained": True} if weights is None else {"checkpoint": str(Path(weights).resolve())}
    frozen = {"frozen_stages": frozen_stages, "norm_eval": True}
    return {"type": "TimmBackbone", "name": chosen, "out_indices": indices, **origin, **frozen}


def choose_neck(
    name: str, backbone: dict[str, Any], anchors: Anchors, detector: str, channels: int, reasons: list[Any]
) -> tuple[dict[str, Any], Anchors]:
    """Choose the neck's arguments so that it has the anchors' levels, or more, which then have anchors too.

    Raises:
        ValueError: an unknown neck, or one without these levels.
    """
    one_of("neck", name, NECKS)
    plain = {key: value for key, value in backbone.items() if key not in ("checkpoint", "pretrained", "type")}
    specs = on_meta(lambda: TimmBackbone(**plain)).feature_specs
    extra = len(anchors.strides) - len(specs)
    least = {"type": name, "out_channels": channels}
    conv = {"num_levels": extra, "op": "conv", "source": "input"}
    pool = {"num_levels": max(1, extra)}
    forms = [least | {"extra_levels": conv if detector == "retinanet" else pool}, least | {"num_extra_levels": extra}]
    for form in [*(forms if extra > 0 else []), least]:
        try:
            strides = [spec.stride for spec in on_meta(partial(build_neck, form, specs)).out_specs(specs)]
        except (TypeError, ValueError):
            continue
        if (
            len(strides) >= len(anchors.strides)
            and strides[0] == anchors.strides[0]
            and strides == sorted(set(strides))
        ):
            reasons.append(("neck", name, f"{channels} channels"))
            return form, replace(anchors, strides=tuple(strides))
    raise ValueError(
        f"neck={name!r} has no levels of the strides {list(anchors.strides)} that the objects need; choose another, "
        "such as FPN or PAFPN"
    )
