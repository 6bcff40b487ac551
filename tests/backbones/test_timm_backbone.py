"""Backbones from timm: published shapes, options, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from timm_networks import FAMILIES, images, randomize
from torch import nn

from fpn_plugins import FeatureSpec, TimmBackbone, TimmHybrid, ViT, check_pyramid

pytestmark = pytest.mark.timm

TINY_SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "out_indices": (0, 1, 2, 3),
    "model_args": {"img_size": 64, "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
}


# ------------------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_published_specs_equal_the_maps(name: str, maps: int):
    backbone = TimmBackbone(name, out_indices=range(maps)).eval()
    for size in ((64, 64), (65, 97), (71, 50)):
        with torch.no_grad():
            check_pyramid(backbone(images(size=size)), backbone.feature_specs, size)
    assert [spec.stride for spec in backbone.feature_specs] == [2, 4, 8, 16, 32][-maps:]


def test_is_traced_symbolically():
    """torchvision's ``create_feature_extractor`` does so."""
    backbone, x = TimmBackbone("resnet10t").eval(), images()
    assert_same_maps(torch.fx.symbolic_trace(backbone)(x), backbone(x), tolerance=0)


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_fewer_maps_are_the_same_maps(name: str, maps: int):
    everything = TimmBackbone(name, out_indices=range(maps)).eval()
    indices = (1, maps - 2)
    some = TimmBackbone(name, out_indices=indices).eval()
    own = some.state_dict()
    assert set(own) <= set(everything.state_dict())
    some.load_state_dict({key: value for key, value in everything.state_dict().items() if key in own})
    x = images()
    with torch.no_grad():
        all_maps = everything(x)
        assert_same_maps(some(x), [all_maps[index] for index in indices], tolerance=0)
    assert some.feature_specs == tuple(everything.feature_specs[index] for index in indices)


def test_maps_of_a_channels_last_network_are_channels_first():
    backbone = TimmBackbone(**TINY_SWIN).eval()
    assert backbone.feature_specs == tuple(FeatureSpec(8 << k, 4 << k) for k in range(4))
    x = images(size=(64, 64))
    maps = backbone(x)
    check_pyramid(maps, backbone.feature_specs, (64, 64))
    assert_same_maps([m.permute(0, 2, 3, 1) for m in maps], backbone.model(x), tolerance=0)


@pytest.mark.parametrize(
    ("name", "arguments", "indices", "strides"),
    [
        ("resnet10t", {}, (1, 2, 3, 4), (4, 8, 16, 32)),
        ("convnext_atto", {}, (0, 1, 2, 3), (4, 8, 16, 32)),
        ("resnet10t", {"output_stride": 16}, (1, 2, 4), (4, 8, 16)),
        ("vit_tiny_patch16_224", {"depth": 3}, (2,), (16,)),
    ],
)
def test_default_maps_are_the_last_of_each_stride(
    name: str, arguments: dict[str, Any], indices: tuple[int, ...], strides: tuple[int, ...]
):
    backbone = TimmBackbone(name, model_args=arguments)
    assert backbone.out_indices == indices
    assert tuple(spec.stride for spec in backbone.feature_specs) == strides


def test_mean_and_std_are_those_of_the_weights():
    import timm

    for name in ("resnet18", "tf_efficientnet_lite0", "mobilenetv2_100.ra_in1k"):
        config = timm.get_pretrained_cfg(name)
        backbone = TimmBackbone(name)
        assert (backbone.mean, backbone.std) == (config.mean, config.std)


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet10t", "convnext_atto"])
def test_layers_after_the_last_wanted_map_are_left_out(name: str) -> None:
    """Parameters without gradient stop DistributedDataParallel, and unused stages cost time."""
    backbone = TimmBackbone(name, out_indices=(0, 1))
    everything = TimmBackbone(name, out_indices=(0, 1, 2, 3))
    for got, wanted in zip(backbone.state_dict(), everything.state_dict(), strict=False):
        assert got == wanted
    everything.load_state_dict({**everything.state_dict(), **backbone.state_dict()})
    image = torch.randn(2, 3, 64, 64)
    backbone.train(), everything.train()
    for got, wanted in zip(backbone(image), everything(image)[:2], strict=True):
        assert torch.equal(got, wanted)
    sum(m.sum() for m in backbone(image)).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


# ---------------------------------------------------------------------------------------------- options of the networks


def test_gradient_checkpointing_gives_equal_gradients():
    plain = TimmBackbone("resnet18").double().train()
    saving = TimmBackbone("resnet18", gradient_checkpointing=True).double().train()
    assert saving.model.grad_checkpointing and not plain.model.grad_checkpointing
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    for backbone in (plain, saving):
        sum(m.square().mean() for m in backbone(x)).backward()
    assert_same_gradients(*({key: p.grad for key, p in module.named_parameters()} for module in (saving, plain)))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_drop_path_drops_in_training_only(name: str):
    indices = (0, 1, 2, 3)
    # random norms, because timm starts each residual branch at zero
    backbone = randomize(TimmBackbone(name, indices, drop_path_rate=0.9, norm_eval=True)).train()
    without = randomize(TimmBackbone(name, indices, norm_eval=True)).train()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert any(not torch.equal(a, b) for a, b in zip(backbone(x), backbone(x), strict=True))
        assert_same_maps(without(x), without(x), tolerance=0)
        backbone.eval()
        assert_same_maps(backbone(x), backbone(x), tolerance=0)


def test_model_args_reach_timm():
    assert TimmBackbone("resnet18", model_args={"output_stride": 8}).feature_specs[-1].stride == 8
    with pytest.raises(TypeError, match="no_such_argument"):
        TimmBackbone("resnet18", model_args={"no_such_argument": 1})


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_unknown_model_suggests_near_names():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet_50' \(near: .*resnet50"):
        TimmBackbone("resnet_50")
    with pytest.raises(ValueError, match="timm has no model '@@@@'$"):
        TimmBackbone("@@@@")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TimmBackbone, "resnet50.no_tag"),
        (TimmBackbone, "resnet50."),
        (ViT, "vit_small_patch16_dinov3.no_tag"),
        (ViT, "vit_base_patch16_dinov3.sat493m"),  # a tag of the large network
        (TimmHybrid, "vit_small_r26_s32_224.no_tag"),
    ],
)
def test_an_unknown_tag_of_the_weights_lists_those_of_the_network(kind: type, name: str):
    with pytest.raises(ValueError, match=rf"timm has no weights '{name}'; there are \['{name.split('.')[0]}\."):
        kind(name=name)


@pytest.mark.parametrize("indices", [(), (4, 3), (1, 1), (-1,), (3, 5)])
def test_out_indices_out_of_range_show_the_table(indices: tuple[int, ...]):
    with pytest.raises(ValueError) as error:
        TimmBackbone("resnet18", out_indices=indices)
    assert f"out_indices={list(indices)} must be ascending" in str(error.value)
    assert "0: stride 2, 1: stride 4, 2: stride 8, 3: stride 16, 4: stride 32" in str(error.value)


def test_too_many_maps_of_a_network_of_four_show_the_table():
    with pytest.raises(
        ValueError, match="of convnext_atto's maps .0: stride 4, 1: stride 8, 2: stride 16, 3: stride 32"
    ):
        TimmBackbone("convnext_atto", out_indices=(1, 2, 3, 4))


def test_a_network_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match="'hrnet_w18_small' has no gradient checkpointing"), torch.device("meta"):
        TimmBackbone("hrnet_w18_small", gradient_checkpointing=True)


def test_a_network_without_feature_maps_says_so(monkeypatch: pytest.MonkeyPatch):
    """Every network of today's timm has some; those of older ones raise this."""
    import timm

    def refuse(*unused: object, **also_unused: object) -> nn.Module:
        raise RuntimeError("features_only not implemented for Vision Transformer models.")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="'resnet18' offers no feature maps .*: features_only not implemented"):
        TimmBackbone("resnet18")


def test_maps_that_timm_lists_but_cannot_return() -> None:
    with pytest.raises(ValueError, match=r"timm cannot return maps \[0, 1\] of 'tresnet_m'"), torch.device("meta"):
        TimmBackbone("tresnet_m", out_indices=(0, 1))
