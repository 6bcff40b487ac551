"""Backbones: image in, tuple of maps out, each with a published `FeatureSpec`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from .hybrid import HybridCNNViT
from .image_pyramid import ImagePyramid
from .multi_depth import MultiDepthViT
from .mvit.mvit import MViT
from .swin.swin import Swin
from .timm.timm_backbone import TimmBackbone
from .timm.timm_hybrid import TimmHybrid
from .vit.vit import ViT

# every backbone; the adapters register these and the contract tests run over them
BACKBONES: dict[str, type[nn.Module]] = {
    backbone.__name__: backbone
    for backbone in (TimmBackbone, ImagePyramid, ViT, MultiDepthViT, HybridCNNViT, TimmHybrid, Swin, MViT)
}

__all__ = [
    "BACKBONES",
    "HybridCNNViT",
    "ImagePyramid",
    "MViT",
    "MultiDepthViT",
    "Swin",
    "TimmBackbone",
    "TimmHybrid",
    "ViT",
    "build_backbone",
]


def build_backbone(backbone: nn.Module | Mapping[str, Any]) -> Any:
    """A backbone as it is, or built from ``{"type": name in BACKBONES, **arguments}``.

    Raises:
        ValueError: unknown type (suggests near names).
        TypeError: an argument that the backbone does not have, or something else than the above, such as a name alone.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    if not isinstance(backbone, Mapping):
        raise TypeError(f'backbone={backbone!r} must be a backbone, or a mapping such as {{"type": "TimmBackbone"}}')
    arguments = {str(key): value for key, value in backbone.items()}
    name = arguments.pop("type", None)
    if name not in BACKBONES:
        near = difflib.get_close_matches(str(name), BACKBONES, n=3, cutoff=0.4)
        hint = f" (near: {near})" if near else ""
        raise ValueError(f"backbone type={name!r} is unknown; choose one of {sorted(BACKBONES)}{hint}")
    return BACKBONES[name](**arguments)
