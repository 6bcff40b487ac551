"""A frozen backbone and LoRA in a training step of both toolboxes: graph, gradients, optimizer state, checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from frozen_detectors import detectron2_config, mmdet_config, pretrained_part
from torch import nn

pytestmark = [pytest.mark.timm]

# a backbone of two blocks, and the argument that trains a part of it
VIT = {"name": "vit_small_plus_patch16_dinov3", "embed_dim": 16, "depth": 2, "num_heads": 2, "window_size": 3}
FROZEN, LORA = {"frozen_stages": 2}, {"lora": {"rank": 2}}
MODES = [pytest.param(FROZEN, id="frozen"), pytest.param(LORA, marks=pytest.mark.peft, id="lora")]
BATCH_NORM = {"type": "TimmBackbone", "name": "resnet10t", "frozen_stages": 4}


def mmdet_step(backbone: dict[str, Any], decay: float | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build the detector and its optimizer as mmengine's runner does, and train for one step."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import build_optim_wrapper

    model = MODELS.build(mmdet_config(backbone)).train()
    recipe: dict[str, Any] = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1}}
    if decay:
        recipe |= {"constructor": "fpn_plugins.ViTLayerDecay", "paramwise_cfg": {"decay_rate": decay}}
    wrapper = build_optim_wrapper(model, recipe)
    model.init_weights()
    batch = demo_mm_inputs(2, [[3, 64, 80], [3, 80, 64]], num_items=[3, 2], num_classes=2)
    model.train_step(batch, wrapper)
    return model, wrapper.optimizer


def detectron2_step(backbone: dict[str, Any], decay: float | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build the detector and its optimizer as the loop of ``tools/train_net.py`` does, and train for one step."""
    from detectron2.config import instantiate
    from detectron2.solver import get_default_optimizer_params
    from detectron2.utils.events import EventStorage
    from detectron2_training import draw_batch

    from fpn_plugins.adapters.detectron2 import get_layer_decay_params

    model = instantiate(detectron2_config(backbone)).train()
    options = {"base_lr": 0.01, "weight_decay": 0.1}
    groups = (
        get_layer_decay_params(model, decay, **options) if decay else get_default_optimizer_params(model, **options)
    )
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    with EventStorage():
        sum(model(draw_batch()).values()).backward()
    optimizer.step()
    return model, optimizer


STEPS = [
    pytest.param(mmdet_step, marks=pytest.mark.mmdet, id="mmdet"),
    pytest.param(detectron2_step, marks=pytest.mark.detectron2, id="detectron2"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", STEPS)
def test_optimizer_state_is_kept_for_trained_parameters_only(step: Any, mode: dict[str, Any]) -> None:
    model, optimizer = step({"type": "ViT", **VIT, **mode}, decay=0.5 if "lora" in mode else None)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p, state in optimizer.state.items() if state}
    assert kept == {name for name, p in model.named_parameters() if p.requires_grad}
    inside = {name for name, p in pretrained_part(model).named_parameters() if p.requires_grad}
    assert len(inside) == (8 if "lora" in mode else 0)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("step", STEPS)
def test_no_graph_is_built_through_a_frozen_backbone_and_norms_stay(step: Any) -> None:
    """With batch norms, whose statistics would move in training mode."""
    model, optimizer = step(dict(BATCH_NORM))
    network = pretrained_part(model)
    assert model.training and not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        maps = network(torch.randn(2, 3, 64, 80))
    assert not saved and not any(m.requires_grad for m in maps)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    inside = {id(p) for p in network.parameters()}
    assert optimizer.state and not inside & {id(p) for p, state in optimizer.state.items() if state}


@pytest.mark.peft
@pytest.mark.mmdet
def test_a_checkpoint_of_a_lora_training_loads_again_in_mmdet(tmp_path: Path) -> None:
    from mmdet.registry import MODELS
    from mmengine.runner import load_checkpoint, save_checkpoint

    from fpn_plugins.backbones import merge_lora

    model, _ = mmdet_step({"type": "ViT", **VIT, **LORA})
    save_checkpoint({"state_dict": model.state_dict()}, str(tmp_path / "epoch_1.pth"))
    images = torch.randn(1, 3, 64, 80)
    again = MODELS.build(mmdet_config({"type": "ViT", **VIT, **LORA}))
    load_checkpoint(again, str(tmp_path / "epoch_1.pth"), strict=True)
    expected = model.eval().backbone(images)
    assert all(torch.equal(a, b) for a, b in zip(again.eval().backbone(images), expected, strict=True))
    plain = MODELS.build(mmdet_config({"type": "ViT", **VIT}))
    plain.load_state_dict(merge_lora(copy.deepcopy(model)).state_dict(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain.eval().backbone(images), expected, strict=True))
    again.load_state_dict(plain.state_dict(), strict=True)  # a detector without adapters, as ``load_from``


@pytest.mark.peft
@pytest.mark.mmdet
def test_init_cfg_loads_weights_into_a_network_with_adapters(tmp_path: Path) -> None:
    """mmengine loads them after it has built the optimizer."""
    import timm
    from mmdet.registry import MODELS

    theirs = timm.create_model(VIT["name"], num_classes=0, embed_dim=16, depth=2, num_heads=2)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "vit.pth")}
    backbone = MODELS.build({"type": "fpn_plugins.ViT", **VIT, **LORA, "init_cfg": pretrained})
    backbone.init_weights()
    got = backbone.state_dict()["blocks.1.attn.qkv.base_layer.weight"]
    assert torch.equal(got, theirs.state_dict()["blocks.1.attn.qkv.weight"])


@pytest.mark.peft
@pytest.mark.detectron2
def test_checkpoints_load_again_in_detectron2(tmp_path: Path) -> None:
    """Those of a LoRA training, and those of a detector without adapters, with both checkpointers."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import instantiate

    from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer
    from fpn_plugins.backbones import merge_lora

    model, _ = detectron2_step({"type": "ViT", **VIT, **LORA})
    DetectionCheckpointer(model, str(tmp_path)).save("model_final")
    merged = merge_lora(copy.deepcopy(model))
    DetectionCheckpointer(merged, str(tmp_path)).save("merged")
    images = torch.randn(1, 3, 64, 96)
    expected = model.eval().backbone(images)
    for checkpointer in (DetectionCheckpointer, lambda model: SafeCheckpointer(model, complete=True)):
        for file, mode in (("model_final", LORA), ("merged", {}), ("merged", LORA)):
            again = instantiate(detectron2_config({"type": "ViT", **VIT, **mode})).eval()
            checkpointer(again).load(str(tmp_path / f"{file}.pth"))
            maps = again.backbone(images)
            assert all(torch.allclose(maps[name], expected[name], atol=1e-5) for name in expected)
