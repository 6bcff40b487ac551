"""The configs of ViT-Adapter train the published network alike in both toolboxes, and load its detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fpn_plugins.weights.maps.vit_adapter import published

STEM = "mask_rcnn_vit_adapter_s_fpn_36e"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2]


@pytest.fixture(scope="module")
def theirs() -> Any:
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(str(CONFIGS / f"mmdet/{STEM}.py"))
    cfg.model.backbone.vit.checkpoint = None
    return cfg


@pytest.fixture(scope="module")
def lazy() -> Any:
    from detectron2.config import LazyConfig

    return LazyConfig.load(str(CONFIGS / f"detectron2/{STEM}.py"))


def test_both_hosts_train_the_same_network_with_the_same_rates_and_decay(theirs: Any, lazy: Any) -> None:
    from detectron2.config import instantiate
    from mmdet.registry import MODELS
    from mmengine.optim import build_optim_wrapper

    assert theirs.train_dataloader.batch_size * 8 == lazy.dataloader.train.total_batch_size == 16
    backbone = MODELS.build(theirs.model.backbone)
    settings = []
    lazy.optimizer.params.model = bottom_up = instantiate(lazy.model.backbone).bottom_up
    for model, optimizer in (
        (backbone, build_optim_wrapper(backbone, theirs.optim_wrapper).optimizer),
        (bottom_up, instantiate(lazy.optimizer)),
    ):
        names = {p: name for name, p in model.named_parameters()}
        groups = [(names[p], group) for group in optimizer.param_groups for p in group["params"]]
        settings.append({name: (group["lr"], group["weight_decay"]) for name, group in groups})
    assert settings[0] == settings[1]
    kept = {name for name, (_, decay) in settings[0].items() if decay == 0}
    parameters = dict(backbone.named_parameters())
    assert kept >= {"level_embed", "vit.pos_embed", "norms.0.weight", "up.bias"}
    assert all("gamma" in name or name in kept for name, p in parameters.items() if p.dim() < 2)
    assert sum(p.numel() for p in parameters.values()) == 27_494_672  # published without the factors of its LayerScale


def test_a_published_detector_loads(theirs: Any) -> None:
    """Its names are those of mmdet's detectors but for the backbone's."""
    from mmdet.registry import MODELS

    model = MODELS.build(theirs.model)
    own = {key: torch.rand_like(x) if x.is_floating_point() else x for key, x in model.state_dict().items()}
    prefix = "backbone."
    inner = {key.removeprefix(prefix): x for key, x in own.items() if key.startswith(prefix)}
    renamed, report = published().inverse().apply(inner)
    assert report.complete
    weights = {key: x for key, x in own.items() if not key.startswith(prefix)}
    weights |= {prefix + key: x for key, x in renamed.items()}
    assert "backbone.spm.stem.0.weight" in weights and "backbone.blocks.11.mlp.fc1.weight" in weights
    model.load_state_dict(weights)
    assert all(x.equal(own[key]) for key, x in model.state_dict().items())
