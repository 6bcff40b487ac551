"""MultiDepthViT: source block and resampling of each map, and strides for any image size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_maps

from fpn_plugins import FPN, FeatureSpec, MultiDepthViT, ViT

VIT: dict[str, Any] = {
    "img_size": 64,
    "embed_dim": 24,
    "depth": 5,
    "num_heads": 3,
    "window_size": 2,
    "global_block_indices": (1, 4),
}


def test_maps_are_resampled_outputs_of_the_blocks() -> None:
    backbone = MultiDepthViT(VIT, depths=(1, 2, 4, 5), norm="BN").double().eval()
    vit = ViT(**{**VIT, "out_block_indices": (0, 1, 3, 4)}).double().eval()
    vit.load_state_dict(backbone.vit.state_dict())
    image = torch.randn(2, 3, 64, 96, dtype=torch.double)
    got, blocks = backbone(image), vit(image)
    first, second = backbone.resamples[0], backbone.resamples[1]
    wanted = (
        first[3](F.gelu(first[1](first[0](blocks[0])))),
        second[0](blocks[1]),
        blocks[2],
        F.max_pool2d(blocks[3], 2),
    )
    assert_same_maps(got, wanted)
    assert backbone.feature_specs == tuple(FeatureSpec(24, stride) for stride in (4, 8, 16, 32))


@settings(max_examples=8)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_is_zero_padded_and_rounds_up(height: int, width: int) -> None:
    backbone = MultiDepthViT(VIT, depths=(1, 2, 3, 5)).double().eval()
    image = torch.randn(1, 3, height, width, dtype=torch.double)
    padded = F.pad(image, (0, -width % 32, 0, -height % 32))
    with torch.no_grad():
        got, whole = backbone(image), backbone(padded)
    for m, full, spec in zip(got, whole, backbone.feature_specs, strict=True):
        rows, columns = -(-height // spec.stride), -(-width // spec.stride)
        assert m.shape[-2:] == (rows, columns)
        assert_same_maps(m, full[..., :rows, :columns])


def test_blocks_after_the_last_depth_are_left_out() -> None:
    backbone = MultiDepthViT(VIT, depths=(1, 3), strides=(8, 16))
    assert len(backbone.vit.blocks) == 3
    assert [spec.stride for spec in backbone.feature_specs] == [8, 16]
    maps = FPN([spec.channels for spec in backbone.feature_specs], 8)(backbone(torch.randn(1, 3, 40, 40)))
    assert [tuple(m.shape) for m in maps] == [(1, 8, 5, 5), (1, 8, 3, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 2, 3, 6)}, r"depths=\[1, 2, 3, 6\].*5 blocks, counted from 1"),
        ({"depths": (0, 1, 2, 3)}, "counted from 1"),
        ({"depths": (3, 2, 4, 5)}, "must ascend"),
        ({"depths": (1, 2, 3)}, "must have the same length"),
        (
            {"depths": (1, 2, 3, 4), "strides": (4, 8, 16, 24)},
            r"strides=\[4, 8, 16, 24\] .*16 pixels .*power of two.*patch_size",
        ),
        ({"depths": (1, 2, 3, 4), "vit": {**VIT, "out_block_indices": (1,)}}, "is derived from depths"),
        ({"vit": {**VIT, "depth": 11}}, "11 blocks"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiDepthViT(**{"vit": VIT, **arguments})
