"""Training with a feature cache in both toolboxes: losses and weights equal those without, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from frozen_detectors import detectron2_config, mmdet_config, pretrained_part

STEPS = 3
VIT = {"type": "ViT", "embed_dim": 16, "depth": 2, "num_heads": 2, "window_size": 3, "global_block_indices": (1,)}
Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor], Any]


def train_mmdet(backbone: dict[str, Any], images: int) -> Trained:
    """Train on the same images in every step; return losses, weights and the backbone."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import build_optim_wrapper

    torch.manual_seed(0)
    model = MODELS.build(mmdet_config(backbone))
    wrapper = build_optim_wrapper(model, {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.01}})
    model.init_weights()
    history = []
    for _ in range(STEPS):
        model.train()
        sizes = [[3, 64, 80], [3, 80, 64]][:images]
        batch = demo_mm_inputs(images, sizes, num_items=[3, 2][:images], num_classes=2)
        history.append({name: float(value) for name, value in model.train_step(batch, wrapper).items()})
    return history, model.state_dict(), pretrained_part(model)


def train_detectron2(backbone: dict[str, Any], images: int) -> Trained:
    """Train on the same images in every step; return losses, weights and the backbone."""
    from detectron2.config import instantiate
    from detectron2.utils.events import EventStorage
    from detectron2_training import draw_batch

    torch.manual_seed(0)
    model = instantiate(detectron2_config(backbone)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    history = []
    with EventStorage():
        for _ in range(STEPS):
            torch.manual_seed(1)
            losses = model(draw_batch()[:images])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({name: float(value) for name, value in losses.items()})
    return history, model.state_dict(), pretrained_part(model)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    "train",
    [
        pytest.param(train_mmdet, marks=pytest.mark.mmdet, id="mmdet"),
        pytest.param(train_detectron2, marks=pytest.mark.detectron2, id="detectron2"),
    ],
)
def test_training_is_the_same_with_and_without(
    train: Callable[[dict[str, Any], int], Trained], images: int, tmp_path: Path
) -> None:
    """Without: no cache for one image per step, and one that keeps nothing for several."""
    none = {} if images == 1 else {"feature_cache": {"folder": str(tmp_path / "none"), "max_bytes": 0}}
    cache = {"feature_cache": {"folder": str(tmp_path / "maps"), "max_bytes": 1e8}}
    train({**VIT, "frozen_stages": 2}, images)  # a process may round differently in its first training
    losses, weights, _ = train({**VIT, "frozen_stages": 2, **none}, images)
    assert losses[0] != losses[-1]
    for name in ("cold", "warm"):
        cached, after, backbone = train({**VIT, "frozen_stages": 2, **cache}, images)
        assert cached == losses, name
        assert after.keys() == weights.keys()
        assert [key for key in weights if not torch.equal(after[key], weights[key])] == [], name
        assert not backbone.training
        assert len(list((tmp_path / "maps").glob("*.safetensors"))) == images
    assert not (tmp_path / "none").exists()
