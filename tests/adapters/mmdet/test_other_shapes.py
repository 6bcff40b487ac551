"""Tables of another size, and weights of another shape, through mmengine's loader, which only warns of shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fpn_plugins import MViT, Swin, TimmBackbone, ViT

pytestmark = pytest.mark.mmdet

VIT = {"embed_dim": 8, "depth": 2, "num_heads": 2, "global_block_indices": (1,), "window_size": 3}
SWIN = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
MVIT = {"name": "mvitv2_tiny", "embed_dim": 8, "num_heads": 1, "last_block_indices": (0, 1, 2, 3)}


def load(source: nn.Module, target: nn.Module) -> nn.Module:
    """As mmengine loads a detector's file for ``load_from``."""
    from mmengine.runner.checkpoint import load_state_dict

    detector = nn.Module()
    detector.backbone = target
    weights = {f"backbone.{key}": value for key, value in source.state_dict().items()}
    load_state_dict(detector, weights, strict=False)  # type: ignore[arg-type]
    return target


@pytest.mark.parametrize(
    ("kind", "arguments", "other"),
    [
        (Swin, {**SWIN, "window_size": 4}, {**SWIN, "window_size": 7}),
        (ViT, {**VIT, "img_size": 64}, {**VIT, "img_size": 96, "pretrain_img_size": 96, "patch_size": 8}),
        (TimmBackbone, {"name": "test_vit"}, {"name": "test_vit", "model_args": {"img_size": 96}}),
    ],
)
def test_tables_are_resized(kind: Callable[..., Any], arguments: dict[str, Any], other: dict[str, Any]) -> None:
    source, target, expected = kind(**arguments), kind(**other), kind(**other)
    expected.load_state_dict(source.state_dict())
    load(source, target)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (lambda: MViT(img_size=64, **MVIT), lambda: MViT(img_size=128, **MVIT)),
        (lambda: Swin(**SWIN), lambda: Swin(**{**SWIN, "embed_dim": 16})),
        (lambda: ViT(**VIT), lambda: ViT(**VIT, mlp_ratio=2.0)),
        (lambda: TimmBackbone("mobilenetv2_050"), lambda: TimmBackbone("mobilenetv2_100")),
    ],
)
def test_other_shapes_are_an_error(source: Callable[[], nn.Module], target: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match="tensors of another shape"):
        load(source(), target())
