"""Layer-wise learning rates of every backbone: timm's layers for its networks, our own for ViT, Swin and MViT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fpn_plugins import (
    FPN,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    Pyramid,
    SpatialTuningAdapter,
    Swin,
    TimmBackbone,
    TimmHybrid,
    ViT,
    ViTAdapter,
)
from fpn_plugins.training import layer_lr_factors, vit_lr_factor
from fpn_plugins.weights.maps import swin as swin_tables

VIT = {"embed_dim": 8, "depth": 4, "num_heads": 2, "global_block_indices": (1,), "residual_block_indices": (2,)}
SWIN = {"embed_dim": 8, "depths": (1, 2, 3, 1), "num_heads": (1, 1, 2, 2)}
MVIT = {"name": "mvitv2_tiny", "embed_dim": 8, "num_heads": 1, "last_block_indices": (0, 2, 3, 4)}


def detector(backbone: nn.Module, name: str = "backbone") -> nn.Module:
    channels = [spec.channels for spec in backbone.feature_specs]  # type: ignore[union-attr]
    return nn.ModuleDict({name: Pyramid(backbone, FPN(channels, 4)), "head": nn.Linear(2, 2)})


def factors_of(backbone: nn.Module, **arguments: Any) -> dict[str, float]:
    return layer_lr_factors(detector(backbone), 0.5, **arguments)


def timm_scales(model: nn.Module, decay: float) -> dict[str, float]:
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(model, layer_decay=decay)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    return {name: scales[id(p)] for name, p in model.named_parameters()}


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("backbone", "depth"), [(ViT(**VIT), 4), (MViT(**MVIT), 5), (ViT(**VIT, out_block_indices=[1]), 4)]
)
def test_blocks_match_detectron2(backbone: nn.Module, depth: int) -> None:
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate

    for name, factor in factors_of(backbone, num_layers=depth).items():
        wanted = 1.0 if ".neck." in name else get_vit_lr_decay_rate(name, 0.5, depth)
        assert factor == wanted, name
        if not name.startswith("head."):
            assert factor == vit_lr_factor(name, 0.5, depth)


@pytest.mark.timm
@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_pe_core_tiny_patch16_384"])
def test_named_vits_have_the_layers_of_plain_ones(name: str) -> None:
    """Tokens, registers and the norm before the blocks are the stem, as in timm; the final norm has the full rate."""
    net = ViT(name=name, embed_dim=16, depth=3, num_heads=1)
    for key, factor in layer_lr_factors(net, 0.5).items():
        block = int(key.split(".")[1]) + 1 if key.startswith("blocks.") else 4 if key.startswith("norm.") else 0
        assert factor == 0.5 ** (4 - block) == vit_lr_factor(f"backbone.bottom_up.{key}", 0.5, 3), key


@pytest.mark.timm
@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (0, 1)])
def test_layers_of_swin_are_those_of_timm(indices: tuple[int, ...]) -> None:
    import timm

    theirs = timm.create_model("swin_tiny_patch4_window7_224", **SWIN)
    wanted = timm_scales(theirs, 0.5)
    ours = Swin(**SWIN, out_indices=indices)
    found = layer_lr_factors(ours, 0.5)
    compared = set()
    for name, factor in wanted.items():
        renamed = swin_tables.timm().find(name)[1]
        if renamed in found:
            assert found[renamed] == factor, name
            compared.add(renamed)
    assert compared == {name for name in found if not name.startswith("norm")}
    assert all(found[name] == 1 for name in set(found) - compared)


@pytest.mark.timm
def test_parts_that_detection_adds_have_the_full_rate() -> None:
    factors = factors_of(TimmBackbone("convnext_atto", output_norm="LN"))
    full = {name for name, factor in factors.items() if factor == 1}
    assert full == {name for name in factors if ".neck." in name or ".norms." in name or name.startswith("head.")}
    stages = [factors[f"backbone.backbone.model.stages_{i}.blocks.0.conv_dw.weight"] for i in range(4)]
    assert stages == sorted(stages) and len(set(stages)) == 4


@pytest.mark.timm
def test_registers_are_embeddings() -> None:
    factors = factors_of(TimmBackbone("vit_small_patch14_reg4_dinov2", model_args={"depth": 2, "img_size": 28}))
    assert factors["backbone.backbone.model.model.reg_token"] == 0.5**2  # timm builds it without a head


@pytest.mark.timm
def test_composed_backbones_have_the_layers_of_their_parts() -> None:
    import timm

    vit = layer_lr_factors(ViT(**VIT), 0.5)
    for composed in (
        MultiDepthViT(VIT, depths=(1, 2, 3, 4)),
        HybridCNNViT({"type": "TimmBackbone", "name": "resnet18"}, VIT),
        SpatialTuningAdapter({"type": "ViT", **VIT}),
        ViTAdapter(VIT, conv_inplane=8),
    ):
        found = layer_lr_factors(composed, 0.5)
        own = {name: factor for name, factor in found.items() if name.startswith("vit.")}
        assert own == {f"vit.{name.removeprefix('vit.')}": vit[name.removeprefix("vit.")] for name in own} and own
        rest = {name.partition(".")[0]: factor for name, factor in found.items() if name not in own}
        assert rest == {name: 0.5**5 if name == "cnn" else 1.0 for name in rest} and rest
    inner = layer_lr_factors(TimmBackbone("resnet18"), 0.5)
    assert layer_lr_factors(ImagePyramid(TimmBackbone("resnet18")), 0.5) == {
        f"backbone.{k}": v for k, v in inner.items()
    }
    name = "vit_small_r26_s32_224"
    theirs = timm_scales(timm.create_model(name, depth=1), 0.5)
    hybrid = layer_lr_factors(TimmHybrid(name, model_args={"depth": 1}), 0.5)
    assert hybrid == {key: theirs[key.removeprefix("model.")] for key in hybrid}


@pytest.mark.parametrize("num_layers", [3, 5])
def test_another_number_of_layers_is_an_error(num_layers: int) -> None:
    with pytest.raises(ValueError, match=f"depth={num_layers}, but .*set the depth .num_layers. to 4"):
        factors_of(ViT(**VIT), num_layers=num_layers)


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)


def test_a_backbone_of_unknown_layers_is_named() -> None:
    model = nn.ModuleDict({"backbone": Unknown()})
    with pytest.raises(ValueError, match="Unknown is no backbone of fpn_plugins: set .*num_layers"):
        layer_lr_factors(model, 0.5)
    with pytest.raises(ValueError, match=r"the layers of Unknown are not known: .*'backbone\.stem\.weight'"):
        layer_lr_factors(model, 0.5, num_layers=4)


@pytest.mark.timm
def test_names_of_other_networks_are_refused() -> None:
    """A rate for one name must not be guessed, because Detectron2 passes nothing else."""
    for name in ("convnext_atto", "resnet18", "mobilenetv2_050", "pvt_v2_b0"):
        with torch.device("meta"):
            names = [f"backbone.bottom_up.{key}" for key, _ in TimmBackbone(name).named_parameters()]
        for key in names:
            if ".norm" not in key and "patch_embed" not in key:
                with pytest.raises(ValueError, match="vit_lr_factor knows the layers of plain ViTs"):
                    vit_lr_factor(key, 0.5, 99)
    with pytest.raises(ValueError, match=r"layers\.0\.blocks\.0"):
        vit_lr_factor("backbone.bottom_up.layers.0.blocks.0.norm1.weight", 0.5, 99)


@pytest.mark.detectron2
@pytest.mark.timm
def test_parameter_groups_in_detectron2() -> None:
    from detectron2.config import LazyCall, instantiate

    from fpn_plugins.adapters.detectron2 import get_layer_decay_params

    model = detector(Swin(**SWIN))
    call = LazyCall(get_layer_decay_params)(decay=0.5, base_lr=2.0, weight_decay_norm=0.0, weight_decay=0.1)
    call.model = model
    rates = {id(p): group["lr"] for group in instantiate(call) for p in group["params"]}
    factors = factors_of(Swin(**SWIN))
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {k: 2 * v for k, v in factors.items()}


@pytest.mark.mmdet
@pytest.mark.timm
def test_parameter_groups_in_mmdet() -> None:
    from mmengine.optim import build_optim_wrapper

    import fpn_plugins.adapters.mmdet  # noqa: F401

    model = detector(TimmBackbone("regnetx_002"))
    config = {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 2.0},
        "constructor": "fpn_plugins.ViTLayerDecay",
        "paramwise_cfg": {"decay_rate": 0.5},
    }
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    factors = layer_lr_factors(model, 0.5)
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {k: 2 * v for k, v in factors.items()}
    assert len(set(factors.values())) > 5
    model["backbone"] = Unknown()
    with pytest.raises(ValueError, match="Unknown is no backbone of fpn_plugins"):
        build_optim_wrapper(model, config)
