"""SpatialTuningAdapter equals a plain definition in DEIMv2's names, whose layout it loads, at any image size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import assert_zero_padded_and_rounded_up
from precision import assert_same_gradients, assert_same_maps
from registered import BACKBONE_ARGUMENTS, build, gradients
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, SpatialTuningAdapter, ViT, build_backbone
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.maps.spatial_tuning import deimv2

VIT: dict[str, Any] = BACKBONE_ARGUMENTS["SpatialTuningAdapter"]["vit"]
KEYS = ("running_mean", "running_var", "weight", "bias")


def in_their_names(adapter: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename all but the ViT's."""
    own = {key: value for key, value in tensors.items() if not key.startswith("vit.")}
    return deimv2().inverse().apply(own)[0]


def adapted(adapter: SpatialTuningAdapter, image: Tensor) -> list[Tensor]:
    """Compute the maps for whole cells from weights in DEIMv2's names."""
    w = in_their_names(adapter, {**adapter.state_dict(), **dict(adapter.named_parameters())})

    def normed(place: str, x: Tensor) -> Tensor:
        return F.batch_norm(x, *(w[f"{place}.{key}"] for key in KEYS))

    def halved(conv: str, norm: str, x: Tensor) -> Tensor:
        return normed(f"sta.{norm}", F.conv2d(x, w[f"sta.{conv}.weight"], stride=2, padding=1))

    stem = F.max_pool2d(F.gelu(halved("stem.0", "stem.1", image)), 3, 2, 1)
    d3 = halved("conv2.0", "conv2.1", stem)
    d4 = halved("conv3.1", "conv3.2", F.gelu(d3))
    d5 = halved("conv4.1", "conv4.2", F.gelu(d4))
    v3, v4, v5 = adapter.vit(image)
    v3, v5 = (F.interpolate(v, scale_factor=s, mode="bilinear") for v, s in ((v3, 2.0), (v5, 0.5)))
    joined = [torch.cat(pair, 1) for pair in ((v3, d3), (v4, d4), (v5, d5))]
    return [normed(f"norms.{i}", F.conv2d(x, w[f"convs.{i}.weight"])) for i, x in enumerate(joined)]


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_matches_the_definition(size: tuple[int, int]) -> None:
    adapter = build("SpatialTuningAdapter", out_channels=24).double()
    assert adapter.feature_specs == tuple(FeatureSpec(24, stride) for stride in (8, 16, 32))
    image = torch.randn(2, 3, *size, dtype=torch.double)
    got, expected = adapter(image), adapted(adapter, image)
    assert_same_maps(got, expected)
    assert_same_gradients(gradients(adapter, got), gradients(adapter, expected))


@settings(max_examples=6)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_is_zero_padded_and_rounds_up(height: int, width: int) -> None:
    assert_zero_padded_and_rounded_up("SpatialTuningAdapter", height, width)


def test_one_map_becomes_every_level() -> None:
    """Three taps of the same block are the same."""
    vit = {**VIT, "out_block_indices": (2,)}
    one = SpatialTuningAdapter(vit).double().eval()
    three = SpatialTuningAdapter(Repeated(build_backbone(vit))).double().eval()
    three.load_state_dict({key.replace("vit.", "vit.vit.", 1): value for key, value in one.state_dict().items()})
    image = torch.randn(1, 3, 40, 50, dtype=torch.double)
    assert_same_maps(one(image), three(image), tolerance=0)


class Repeated(nn.Module):
    """A user's backbone that returns a ViT's map three times."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, self.feature_specs = vit, vit.feature_specs * 3

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.vit(x) * 3


@pytest.mark.parametrize("holder", ["dinov3", "dinov3._model"])
def test_their_layout_loads(holder: str, tmp_path: Path) -> None:
    """DEIMv2 holds its own small ViTs one level deeper than DINOv3's."""
    weights = build("SpatialTuningAdapter").state_dict()
    vit = {f"{holder}.{key.removeprefix('vit.')}": x for key, x in weights.items() if key.startswith("vit.")}
    theirs = {**in_their_names(build("SpatialTuningAdapter"), weights), **vit}
    assert not set(theirs) & set(weights)
    write_checkpoint(theirs, tmp_path / "adapter.pth")
    adapter = SpatialTuningAdapter(
        **BACKBONE_ARGUMENTS["SpatialTuningAdapter"], checkpoint=tmp_path / "adapter.pth", frozen_stages=1
    )
    assert all(value.equal(weights[key]) for key, value in adapter.state_dict().items())
    assert not adapter.vit.blocks[0].mlp.fc1.weight.requires_grad and adapter.vit.blocks[1].mlp.fc1.weight.requires_grad
    del theirs["sta.conv2.0.weight"]
    write_checkpoint(theirs, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part.pth' does not fit SpatialTuningAdapter .*detail_convs.1.conv.weight"):
        adapter.load_weights(tmp_path / "part.pth")


@pytest.mark.parametrize("patch_size", [8, 32])
def test_other_strides_and_channels_of_the_image(patch_size: int) -> None:
    vit = {**VIT, "patch_size": patch_size, "in_chans": 4}
    adapter = SpatialTuningAdapter(vit, norm="LN", act="silu").eval()
    assert adapter.in_chans == 4
    maps = adapter(torch.randn(1, 4, 33, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 5, 8), (32, 3, 4), (32, 2, 2)]


DINOV3 = {"name": "vit_small_patch16_dinov3"}
TIMMS = {"depth": 3, "embed_dim": 24, "num_heads": 3, "dynamic_img_size": True}


@pytest.mark.timm
@pytest.mark.parametrize(
    "vit",
    [
        {"type": "TimmBackbone", **DINOV3, "out_indices": (0, 1, 2), "model_args": TIMMS},
        {"type": "ViT", **DINOV3, "depth": 3, "embed_dim": 24, "num_heads": 3, "out_block_indices": (0, 1, 2)},
    ],
    ids=["TimmBackbone", "ViT"],
)
def test_on_dinov3_with_its_pixels(vit: dict[str, Any]) -> None:
    adapter = SpatialTuningAdapter(vit).eval()
    assert (adapter.mean, adapter.std) == (adapter.vit.mean, adapter.vit.std)
    assert [tuple(m.shape[1:]) for m in adapter(torch.randn(1, 3, 47, 64))] == [(24, 6, 8), (24, 3, 4), (24, 2, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vit": {**VIT, "out_block_indices": (1, 2)}}, r"vit has 2 maps of strides \[16, 16\]; it must have one or"),
        ({"vit": {**VIT, "patch_size": 14}}, "all of one stride that divides 32: choose three blocks"),
        ({"vit": {"type": "Swin"}}, r"vit has 4 maps of strides \[4, 8, 16, 32\]"),
        ({"vit": {"embed_dim": 8}}, "vit type=None is unknown; choose one of"),
        ({"detail_channels": 0}, "detail_channels=0 must be at least 1"),
        ({"frozen_stages": 4}, "frozen_stages=4 must be -1"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpatialTuningAdapter(**{"vit": VIT, **arguments})
