"""ViTDet in mmdet: the recipe's parameter groups, padding after normalization, backbones that keep their weights."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from torch import nn

pytestmark = pytest.mark.mmdet

CONFIGS = Path(__file__).resolve().parents[3] / "configs/mmdet"
VIT = {"img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 4, "global_block_indices": (1, 3)}
RESNET = {"type": "TimmBackbone", "name": "resnet10t"}
ENCODER = {"embed_dim": 24, "depth": 1, "num_heads": 3}
BACKBONES = {
    "MultiDepthViT": {"vit": VIT, "depths": (1, 2, 3, 4)},
    "SpatialTuningAdapter": {"vit": {"type": "ViT", **VIT}},
    "ViTAdapter": {"vit": VIT, "conv_inplane": 8},
    "HybridCNNViT": {"cnn": RESNET, "vit": ENCODER},
    "TimmHybrid": {"name": "vit_small_r26_s32_224", "model_args": ENCODER},
}


def small_config(stem: str) -> Any:
    """A shipped config with four blocks of 32 channels, and without its checkpoint."""
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(str(CONFIGS / f"{stem}.py"))
    cfg.model.backbone.backbone.update(**VIT, checkpoint=None, residual_block_indices=(3,))
    cfg.optim_wrapper.paramwise_cfg.num_layers = 4
    return cfg


def build(model: Any) -> nn.Module:
    from mmdet.registry import MODELS

    return MODELS.build(copy.deepcopy(model))


@pytest.mark.detectron2
@pytest.mark.parametrize("stem", ["mask_rcnn_vitdet_b_100e", "mask_rcnn_vitdet_h_75e"])
def test_parameter_groups_match_the_detectron2_recipe(stem: str) -> None:
    """Detectron2's own functions, on the same detector, say which rates and decays they have to be."""
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
    from detectron2.solver import get_default_optimizer_params
    from mmengine.optim import build_optim_wrapper

    cfg = small_config(stem)
    model = build(cfg.model)
    recipe = cfg.optim_wrapper
    overrides = {"pos_embed": {"weight_decay": 0.0}} if "custom_keys" in recipe.paramwise_cfg else {}
    wanted = get_default_optimizer_params(
        model,
        base_lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        weight_decay_norm=recipe.paramwise_cfg.get("norm_decay_mult"),
        lr_factor_func=partial(get_vit_lr_decay_rate, lr_decay_rate=recipe.paramwise_cfg.decay_rate, num_layers=4),
        overrides=overrides,
    )
    recipe.type = "OptimWrapper"  # mixed precision needs a GPU
    got = build_optim_wrapper(model, recipe).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    found = [
        {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
        for groups in (got, wanted)
    ]
    assert found[0] == found[1] and len(found[0]) == len(names)
    assert len({lr for lr, _ in found[0].values()}) == 6


def test_a_recipe_for_fewer_blocks_is_an_error() -> None:
    from mmengine.optim import build_optim_wrapper

    cfg = small_config("mask_rcnn_vitdet_b_100e")
    cfg.optim_wrapper.update(type="OptimWrapper")
    cfg.optim_wrapper.paramwise_cfg.num_layers = 3
    with pytest.raises(ValueError, match="depth=3, but there is a parameter 'backbone.backbone.blocks.3"):
        build_optim_wrapper(build(cfg.model), cfg.optim_wrapper)


def test_images_are_padded_with_zeros_after_normalization() -> None:
    """To multiples of 1024, as Detectron2's are with ``square_pad``; larger ones are not cut off."""
    cfg = small_config("mask_rcnn_vitdet_b_100e")
    preprocessor = build(cfg.model.data_preprocessor)
    for size, padded in (((600, 1024), (1024, 1024)), ((700, 1030), (1024, 2048))):
        image = torch.randint(0, 255, (3, *size), dtype=torch.uint8)
        batch = preprocessor({"inputs": [image]})["inputs"]
        assert tuple(batch.shape[-2:]) == padded
        assert not batch[..., size[0] :, :].any() and not batch[..., size[1] :].any()
        mean, std = (torch.tensor(cfg.model.data_preprocessor[key]).view(3, 1, 1) for key in ("mean", "std"))
        assert_same_maps(batch[0, :, : size[0], : size[1]], (image.flip(0) - mean) / std, additions=1)


@pytest.mark.timm
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_init_weights_keeps_loaded_weights(name: str, tmp_path: Path) -> None:
    """mmengine initializes a detector after building it; ``init_cfg`` alone may change a backbone then."""
    backbone = build({"type": f"fpn_plugins.{name}", **BACKBONES[name]})
    before = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    torch.save({"state_dict": {key: torch.ones_like(value) for key, value in before.items()}}, tmp_path / "ones.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "ones.pth")}
    backbone = build({"type": f"fpn_plugins.{name}", **BACKBONES[name], "init_cfg": pretrained})
    backbone.init_weights()
    assert all(bool((value == 1).all()) for value in backbone.state_dict().values())
