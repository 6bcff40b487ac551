"""MultiScaleProjector equals a plain definition in LW-DETR's names, whose layout it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from registered import build
from state_keys import assert_pinned
from torch import Tensor

from fpn_plugins import FeatureSpec, MultiDepthViT, MultiScaleProjector, Pyramid, build_neck
from fpn_plugins.layers import LayerNorm2d
from fpn_plugins.weights import strip_prefix
from fpn_plugins.weights.maps.multi_scale_projector import lw_detr

CHANNELS = (8, 16)
SCALES = (4.0, 2.0, 1.0, 0.5)
SPECS = [FeatureSpec(channels, 16) for channels in CHANNELS]
LW_DETR = {"norm": "BN", "squeeze_above": 8}
Weights = Mapping[str, Tensor]


def layer_norm(w: Weights, place: str, x: Tensor) -> Tensor:
    """Normalize the channels of each cell."""
    centered = x - x.mean(1, keepdim=True)
    normed = centered / (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return normed * w[f"{place}.weight"][:, None, None] + w[f"{place}.bias"][:, None, None]


def normed_conv(w: Weights, place: str, x: Tensor, act: Any, stride: int = 1) -> Tensor:
    """Convolve, normalize by the kind of norm that the weights are for, and activate."""
    weight, bn = w[f"{place}.conv.weight"], f"{place}.bn"
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    if f"{bn}.running_mean" not in w:
        return act(layer_norm(w, bn, x))
    return act(F.batch_norm(x, *(w[f"{bn}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))))


def double(w: Weights, place: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, w[f"{place}.weight"], w[f"{place}.bias"], stride=2)


def resampled(w: Weights, place: str, x: Tensor, scale: float) -> Tensor:
    if scale == 4:
        return double(w, f"{place}.3", F.gelu(layer_norm(w, f"{place}.1", double(w, f"{place}.0", x))))
    if scale == 2:
        squeezed = f"{place}.0.conv.weight" in w
        return (
            double(w, f"{place}.1", normed_conv(w, f"{place}.0", x, F.relu)) if squeezed else double(w, f"{place}.0", x)
        )
    return x if scale == 1 else normed_conv(w, f"{place}.0", x, F.relu, stride=2)


def projected(w: Weights, maps: Sequence[Tensor], scales: Sequence[float] = SCALES) -> list[Tensor]:
    """Compute the levels from weights in LW-DETR's names."""
    levels = []
    for i, scale in enumerate(scales):
        x = torch.cat([resampled(w, f"stages_sampling.{i}.{j}", m, scale) for j, m in enumerate(maps)], 1)
        parts = list(normed_conv(w, f"stages.{i}.0.cv1", x, F.silu).chunk(2, 1))
        for n in range(2):
            inner = normed_conv(w, f"stages.{i}.0.m.{n}.cv1", parts[-1], F.silu)
            parts.append(normed_conv(w, f"stages.{i}.0.m.{n}.cv2", inner, F.silu))
        joined = normed_conv(w, f"stages.{i}.0.cv2", torch.cat(parts, 1), F.silu)
        levels.append(layer_norm(w, f"stages.{i}.1", joined))
    return levels


def in_their_names(tensors: Weights) -> dict[str, Tensor]:
    return lw_detr().inverse().apply(tensors)[0]


@settings(max_examples=4)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
@pytest.mark.parametrize("arguments", [{"squeeze_above": None}, LW_DETR], ids=["RF-DETR", "LW-DETR"])
def test_matches_the_definition(arguments: dict[str, Any], height: int, width: int) -> None:
    neck = build("MultiScaleProjector", num_blocks=2, scale_factors=SCALES, **arguments).double()
    inputs = [torch.randn(2, channels, height, width, dtype=torch.double) for channels in CHANNELS]
    named = dict(neck.named_parameters())
    w = in_their_names({**neck.state_dict(), **named})
    results = []
    for maps in (neck(inputs), projected(w, inputs)):
        loss = sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in maps)
        results.append((maps, dict(zip(named, torch.autograd.grad(loss, named.values()), strict=True))))
    (got, got_gradients), (expected, expected_gradients) = results
    assert_same_maps(got, expected)
    assert_same_gradients(got_gradients, expected_gradients)


@pytest.mark.parametrize("arguments", [{"squeeze_above": None}, LW_DETR], ids=["RF-DETR", "LW-DETR"])
def test_their_layout_loads_completely_or_not_at_all(arguments: dict[str, Any]) -> None:
    weights = build("MultiScaleProjector", **arguments).state_dict()
    theirs = {f"backbone.0.projector.{key}": value for key, value in in_their_names(weights).items()}
    neck = build("MultiScaleProjector", **arguments)
    neck.load_state_dict(strip_prefix(theirs, "backbone.0.projector."))
    assert all(value.equal(weights[key]) for key, value in neck.state_dict().items())
    coarse = {key: value for key, value in in_their_names(weights).items() if "stages.1." not in key}
    with pytest.raises(ValueError, match="LW-DETR MultiScaleProjector layout: .* missing: blocks.1"):
        neck.load_state_dict(coarse)


def test_levels_need_not_be_adjacent_and_extra_levels_follow_the_last() -> None:
    """LW-DETR's large networks have P3 and P5; its P6 is P5 pooled."""
    neck = build_neck({"type": "MultiScaleProjector", "scale_factors": (2, 0.5), "extra_levels": {}}, SPECS)
    assert [spec.stride for spec in neck.out_specs(SPECS)] == [8, 32, 64]
    p3, p5, p6 = neck([torch.randn(1, channels, 5, 8) for channels in CHANNELS])
    assert [m.shape[-2:] for m in (p3, p5, p6)] == [(10, 16), (3, 4), (2, 2)]
    assert p6.equal(p5[..., ::2, ::2])


def test_reads_maps_of_several_depths() -> None:
    vit = {"img_size": 64, "embed_dim": 16, "depth": 3, "num_heads": 2, "global_block_indices": ()}
    taps = {"type": "ViT", **vit, "out_block_indices": (0, 2)}
    for backbone in (taps, MultiDepthViT(vit, depths=(1, 3), strides=(16, 16))):
        pyramid = Pyramid(backbone, {"type": "MultiScaleProjector", "out_channels": 8})
        assert [m.shape[-1] for m in pyramid(torch.randn(1, 3, 64, 64))] == [8, 4, 2]


@pytest.mark.torchvision
def test_in_torchvision() -> None:
    """After a ViT's depths, and an FPN after an adapter."""
    from fpn_plugins.adapters.torchvision import PyramidBackbone

    vit = {"type": "ViT", "embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 64, "out_block_indices": (0, 1, 2)}
    vit["global_block_indices"] = ()
    for backbone, neck in ((vit, "MultiScaleProjector"), ({"type": "SpatialTuningAdapter", "vit": vit}, "FPN")):
        pyramid = PyramidBackbone(backbone, {"type": neck, "out_channels": 8}).eval()
        widths = {key: m.shape[-1] for key, m in pyramid(torch.randn(1, 3, 50, 70)).items()}
        assert widths == dict(zip("012", (9, 5, 3) if neck == "FPN" else (8, 4, 2), strict=True))


@pytest.mark.mmdet
def test_in_mmdet() -> None:
    """Levels are counted as in mmdet; the norm is ours even without a scope, with an eps of 1e-6."""
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.MultiScaleProjector", "in_channels": [8, 8], "out_channels": 32}
    neck = MODELS.build({**config, "num_outs": 4})
    neck.init_weights()
    assert [m.shape[-1] for m in neck([torch.randn(1, 8, 8, 8)] * 2)] == [16, 8, 4, 2]
    assert {layer.eps for layer in neck.modules() if isinstance(layer, LayerNorm2d)} == {1e-6}
    with pytest.raises(ValueError, match="num_outs=2 is smaller than the 3 levels"):
        MODELS.build({**config, "num_outs": 2})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale_factors": (1, 2)}, "must be powers of two from 16 to 1/2, in descending order"),
        ({"scale_factors": (3,)}, "must be powers of two"),
        ({"scale_factors": (1, 0.25)}, "smaller levels are extra_levels"),
        ({"scale_factors": ()}, "must be powers of two"),
        ({"in_channels": [8, 6], "scale_factors": (4,)}, "in_channels=6 of a map .* multiple of 4"),
        ({"in_channels": [18], "squeeze_above": 16}, "in_channels=18 of a map .* multiple of 4"),
        ({"out_channels": 1}, "out_channels=1 must be at least 2"),
        ({"extra_levels": {"num_levels": 1, "op": "conv", "source": "input"}}, "use source='output'"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiScaleProjector(**{"in_channels": CHANNELS, **arguments})


def test_maps_of_several_strides_or_sizes_are_named() -> None:
    neck = MultiScaleProjector([8, 8], 8)
    with pytest.raises(ValueError, match=r"joins maps of one stride, but the maps have strides \[8, 16\]"):
        neck.out_specs([FeatureSpec(8, 8), FeatureSpec(8, 16)])
    with pytest.raises(ValueError, match=r"joins maps of one size, but the maps have \[\(4, 4\), \(2, 2\)\] cells"):
        neck([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)])


def test_state_dict_keys_are_pinned() -> None:
    affine = ("weight", "bias")
    normed = ("conv.weight", "norm.weight", "norm.bias")
    keys = {f"resamples.0.{place}.{part}" for place in ("0.0", "1.1") for part in affine}
    keys |= {f"resamples.{place}.0.{part}" for place in ("0.1", "1.0", "1.1") for part in normed}
    convs = ["first_conv", "final_conv", "blocks.0.conv1", "blocks.0.conv2"]
    keys |= {f"blocks.{i}.{conv}.{part}" for i in range(2) for conv in convs for part in normed}
    keys |= {f"norms.{i}.{part}" for i in range(2) for part in affine}
    assert_pinned("MultiScaleProjector", keys)
