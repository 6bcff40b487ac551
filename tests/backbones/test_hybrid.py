"""CNN-ViT hybrids: origin of each map, input of the encoder, and timm's pretrained hybrids against timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from seeds import seed

from fpn_plugins import FPN, FeatureSpec, HybridCNNViT, TimmHybrid, check_pyramid
from fpn_plugins.weights import write_checkpoint

pytestmark = pytest.mark.timm

ENCODER = {"embed_dim": 24, "depth": 2, "num_heads": 3}
RESNET = {"type": "TimmBackbone", "name": "resnet10t"}
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 4}


def hybrid(vit_stride: int = 32, **vit: Any) -> HybridCNNViT:
    cnn = RESNET if vit_stride == 32 else {**RESNET, "out_indices": (1, 2, 3)}
    return HybridCNNViT(cnn, {**ENCODER, **vit}, vit_stride).eval()


@pytest.mark.parametrize("vit_stride", [32, 16])
def test_cnn_computes_the_finer_maps_and_the_encoder_c5(vit_stride: int) -> None:
    backbone = hybrid(vit_stride)
    cnn = [FeatureSpec(64, 4), FeatureSpec(128, 8), FeatureSpec(256, 16)]
    assert backbone.feature_specs == (*cnn, FeatureSpec(24, 32))
    image = torch.randn(2, 3, 65, 130)
    maps = backbone(image)
    check_pyramid(maps, backbone.feature_specs, (65, 130))
    assert all(torch.equal(m, own) for m, own in zip(maps, backbone.cnn(image)[:3], strict=False))
    source = backbone.cnn(image)[-1]
    assert source.shape[-2:] == (-(-65 // vit_stride), -(-130 // vit_stride))
    encoded = backbone.norm(backbone.vit(source)[0])
    assert torch.equal(maps[3], encoded if vit_stride == 32 else backbone.downsample(encoded))
    assert len(FPN([spec.channels for spec in backbone.feature_specs], 8)(maps)) == 4


def test_every_cell_of_c5_sees_every_other() -> None:
    backbone = hybrid()
    maps = [torch.randn(1, 512, 8, 8)] * 2
    maps[1] = maps[0].clone()
    maps[1][..., 7, 7] += 1
    one, other = (backbone.vit(m)[0] for m in maps)
    assert bool(((one - other).abs().amax(1) > 0).all())


@pytest.mark.parametrize("size", [(7, 7), (3, 12)])
def test_positions_fit_any_size(size: tuple[int, int]) -> None:
    """Equal cells differ by their position alone."""
    backbone = hybrid(depth=1)
    assert backbone.vit.pos_embed.shape == (1, 49, 24)
    top = backbone.vit(torch.ones(1, 512, *size))[0]
    assert top.shape[-2:] == size
    assert bool((top.flatten(2).var(-1) > 0).all())


def test_windows_and_relative_positions_can_be_asked_for() -> None:
    backbone = hybrid(16, window_size=3, use_rel_pos=True, global_block_indices=(1,))
    assert backbone.vit.blocks[0].attn.window_size == 3
    assert backbone.vit.blocks[1].attn.rel_pos_h.shape[0] == 2 * 64 - 1
    assert backbone(torch.randn(1, 3, 64, 96))[3].shape == (1, 24, 2, 3)


@pytest.mark.parametrize("name", ["vit_small_plus_patch16_dinov3", "eva02_tiny_patch14_224"])
def test_the_encoder_can_have_the_parts_of_a_named_network(name: str) -> None:
    backbone = HybridCNNViT(RESNET, {**ENCODER, "num_heads": 2, "name": name})
    assert backbone.vit.design.rotary is not None and backbone.vit.cls_token is not None
    assert backbone(torch.randn(1, 3, 70, 101))[3].shape == (1, 24, 3, 4)


def test_errors_name_argument_and_remedy() -> None:
    with pytest.raises(ValueError, match=r"vit_stride=16.*\[4, 8, 16, 32\].*out_indices"):
        HybridCNNViT(RESNET, ENCODER, vit_stride=16)
    with pytest.raises(ValueError, match="vit_stride=8 must be 32"):
        HybridCNNViT(RESNET, ENCODER, vit_stride=8)
    with pytest.raises(ValueError, match="must be one of timm's hybrids.*vit_base_r50_s16_224"):
        TimmHybrid("vit_base_resnet50d_224")


@pytest.fixture(scope="module", params=["vit_small_r26_s32_224", "vit_base_r50_s16_224"])
def timm_hybrid(request: pytest.FixtureRequest) -> TimmHybrid:
    """The two kinds, with small encoders."""
    seed(0)
    return TimmHybrid(request.param, model_args=SMALL).double().eval()


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (65, 97)])
def test_maps_match_timm(timm_hybrid: TimmHybrid, size: tuple[int, int]) -> None:
    model, image, stages = timm_hybrid.model, torch.randn(1, 3, *size, dtype=torch.double), []
    hooks = [
        stage.register_forward_hook(lambda module, inputs, out: stages.append(out))
        for stage in model.patch_embed.backbone.stages
    ]
    with torch.no_grad():
        tokens = model.forward_features(image)[:, 1:]
        theirs = list(stages)
        maps = timm_hybrid(image)
    for hook in hooks:
        hook.remove()
    check_pyramid(maps, timm_hybrid.feature_specs, size)
    assert [spec.stride for spec in timm_hybrid.feature_specs] == [4, 8, 16, 32]
    assert_same_maps(maps[:3], theirs[:3])
    grid = theirs[-1].shape[-2:]
    top = tokens.transpose(1, 2).unflatten(2, tuple(grid))
    assert_same_maps(maps[3], timm_hybrid.downsample(top))


def test_timm_weights_load_without_the_classifier(tmp_path: Path) -> None:
    import timm

    name = "vit_small_r26_s32_224"
    full = timm.create_model(name, **SMALL).eval()
    file = write_checkpoint(full.state_dict(), tmp_path / "hybrid.safetensors")
    ours = TimmHybrid(name, checkpoint=file, model_args=SMALL).eval()
    image = torch.randn(1, 3, 224, 224, dtype=torch.double)
    ours.double(), full.double()
    with torch.no_grad():
        wanted = full.forward_features(image)[:, 1:].transpose(1, 2).unflatten(2, (7, 7))
        assert_same_maps(ours(image)[3], wanted)
    assert ours.pixel_mean == ours.pixel_std == [127.5] * 3
    with pytest.raises(ValueError, match="does not fit TimmHybrid 'vit_small_r26_s32_224'"):
        TimmHybrid(name, checkpoint=file, model_args={**SMALL, "embed_dim": 64})


def test_gradient_checkpointing_changes_no_gradient() -> None:
    """The encoder trains with timm's random drop path."""
    gradients = []
    for checkpointing in (False, True):
        seed(0)
        backbone = TimmHybrid(
            "vit_small_r26_s32_224", model_args=SMALL, drop_path_rate=0.5, gradient_checkpointing=checkpointing
        ).double()
        sum(m.square().mean() for m in backbone.train()(torch.randn(2, 3, 64, 64, dtype=torch.double))).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert_same_gradients(gradients[1], gradients[0])
