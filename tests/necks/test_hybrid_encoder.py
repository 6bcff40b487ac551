"""HybridEncoder equals a plain definition in RT-DETR's and D-FINE's names, whose layouts it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing
from precision import assert_same_gradients, assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, HybridEncoder, build_neck
from fpn_plugins.necks import fuse_convs
from fpn_plugins.necks.encoder import sine_positions
from fpn_plugins.weights import strip_prefix
from fpn_plugins.weights.maps.hybrid_encoder import d_fine, rt_detr

CHANNELS = (6, 8, 10)
SMALL = {"out_channels": 8, "num_blocks": 2, "num_heads": 2, "mlp_channels": 12}
D_FINE = {"block": "elan", "downsample": "scdown", "act_on_lateral": False}
DESIGNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RT-DETR": (rt_detr, {}),
    "RT-DETR-R18": (rt_detr, {"expand_ratio": 0.5}),
    "D-FINE": (d_fine, D_FINE),
}
Weights = Mapping[str, Tensor]


def example(design: str, **arguments: Any) -> HybridEncoder:
    """Build a neck in double precision whose norms have statistics and weights of their own."""
    neck = HybridEncoder(CHANNELS, **{**SMALL, **DESIGNS[design][1], **arguments}).double().eval()
    for layer in neck.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return neck


def maps(height: int, width: int, **options: Any) -> list[Tensor]:
    sides = [(height, width)]
    for _ in CHANNELS[1:]:
        sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
    return [torch.randn(2, c, *side, dtype=torch.double, **options) for c, side in zip(CHANNELS, sides, strict=True)]


# ------------------------------------------------------------------- the definition, from weights in the authors' names


def conv(w: Weights, place: str, x: Tensor, act: Any = F.silu, stride: int = 1) -> Tensor:
    weight, norm = w[f"{place}.conv.weight"], [w[f"{place}.norm.{key}"] for key in ("running_mean", "running_var")]
    groups = x.shape[1] // weight.shape[1]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
    return act(F.batch_norm(x, *norm, w[f"{place}.norm.weight"], w[f"{place}.norm.bias"]))


def rep_csp(w: Weights, place: str, x: Tensor) -> Tensor:
    main = conv(w, f"{place}.conv1", x)
    for n in range(SMALL["num_blocks"]):
        branches = (conv(w, f"{place}.bottlenecks.{n}.conv{k}", main, nn.Identity()) for k in (1, 2))
        main = F.silu(sum(branches))
    joined = main + conv(w, f"{place}.conv2", x)
    return conv(w, f"{place}.conv3", joined) if f"{place}.conv3.conv.weight" in w else joined


def elan(w: Weights, place: str, x: Tensor) -> Tensor:
    parts = list(conv(w, f"{place}.cv1", x).chunk(2, 1))
    for stage in ("cv2", "cv3"):
        parts.append(conv(w, f"{place}.{stage}.1", rep_csp(w, f"{place}.{stage}.0", parts[-1])))
    return conv(w, f"{place}.cv4", torch.cat(parts, 1))


def attended(w: Weights, x: Tensor) -> Tensor:
    """Compute the layer of the coarsest map, ``B C H W``, with two heads."""
    place, (height, width) = "encoder.0.layers.0", x.shape[-2:]
    tokens = x.flatten(2).mT
    angles = 10000.0 ** -torch.arange(0, 1, 0.5, dtype=x.dtype)
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=x.dtype) for side in (height, width)), indexing="ij")
    waves = [wave(place.reshape(-1, 1) * angles) for place in (rows, columns) for wave in (torch.sin, torch.cos)]
    placed = tokens + torch.cat(waves, 1)
    projections = zip(
        (placed, placed, tokens),
        w[f"{place}.self_attn.in_proj_weight"].chunk(3),
        w[f"{place}.self_attn.in_proj_bias"].chunk(3),
        strict=True,
    )
    q, k, v = (
        F.linear(value, weight, bias).unflatten(2, (2, 4)).transpose(1, 2) for value, weight, bias in projections
    )
    mixed = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    linear = partial(_linear, w, place)
    tokens = linear("norm1", tokens + linear("self_attn.out_proj", mixed))
    tokens = linear("norm2", tokens + linear("linear2", F.gelu(linear("linear1", tokens))))
    return tokens.mT.unflatten(2, (height, width))


def _linear(w: Weights, place: str, name: str, x: Tensor) -> Tensor:
    weight, bias = w[f"{place}.{name}.weight"], w[f"{place}.{name}.bias"]
    return F.linear(x, weight, bias) if weight.ndim == 2 else F.layer_norm(x, weight.shape, weight, bias)


def defined(w: Weights, inputs: Sequence[Tensor], is_d_fine: bool) -> list[Tensor]:
    block, last = elan if is_d_fine else rep_csp, len(inputs) - 1
    levels = [conv(w, f"input_proj.{i}", x, nn.Identity()) for i, x in enumerate(inputs)]
    levels[-1] = attended(w, levels[-1])
    for step, i in enumerate(range(last, 0, -1)):
        levels[i] = conv(w, f"lateral_convs.{step}", levels[i], nn.Identity() if is_d_fine else F.silu)
        up = F.interpolate(levels[i], levels[i - 1].shape[-2:])
        levels[i - 1] = block(w, f"fpn_blocks.{step}", torch.cat((up, levels[i - 1]), 1))
    for i in range(last):
        if is_d_fine:
            place = f"downsample_convs.{i}.0"
            down = conv(w, f"{place}.cv2", conv(w, f"{place}.cv1", levels[i], nn.Identity()), nn.Identity(), stride=2)
        else:
            down = conv(w, f"downsample_convs.{i}", levels[i], stride=2)
        levels[i + 1] = block(w, f"pan_blocks.{i}", torch.cat((down, levels[i + 1]), 1))
    return levels


@settings(max_examples=3)
@given(height=st.integers(1, 13), width=st.integers(1, 13))
@pytest.mark.parametrize("design", DESIGNS)
def test_matches_the_definition(design: str, height: int, width: int) -> None:
    neck, inputs = example(design), maps(height, width)
    named = dict(neck.named_parameters())
    w = DESIGNS[design][0]().inverse().apply({**neck.state_dict(), **named})[0]
    w = {key.replace(".0.weight", ".conv.weight") if key.startswith("input_proj") else key: v for key, v in w.items()}
    results = []
    for outputs in (neck(inputs), defined(w, inputs, design == "D-FINE")):
        loss = sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in outputs)
        results.append((outputs, torch.autograd.grad(loss, named.values())))
    assert_same_maps(list(results[0][0]), results[1][0])
    assert_same_gradients(dict(zip(named, results[0][1], strict=True)), dict(zip(named, results[1][1], strict=True)))


@pytest.mark.parametrize("design", DESIGNS)
def test_their_layouts_load_completely_or_not_at_all(design: str) -> None:
    """Version 1 of RT-DETR numbers the layers of the first convolutions; some files have positions of one size."""
    table, arguments = DESIGNS[design]
    weights = example(design).state_dict()
    theirs = table().inverse().apply(weights)[0]
    numbered = {}
    for key, value in theirs.items():
        for number, part in enumerate(("conv", "norm")):
            key = key.replace(f".{part}.", f".{number}.") if key.startswith("input_proj") else key
        numbered[key] = value
    for layout in (theirs, numbered, {**theirs, "pos_embed2": torch.zeros(1, 4, 8)}):
        neck = HybridEncoder(CHANNELS, **{**SMALL, **arguments}).double()
        neck.load_state_dict(strip_prefix({f"encoder.{key}": value for key, value in layout.items()}, "encoder."))
        assert all(value.equal(weights[key]) for key, value in neck.state_dict().items())
    coarse = {key: value for key, value in theirs.items() if "pan_blocks.1" not in key}
    with pytest.raises(ValueError, match="HybridEncoder layout: .* missing: bottom_up_blocks.1"):
        neck.load_state_dict(coarse)


# ------------------------------------------------------------------------------------------------- sizes and options


def test_every_cell_has_a_position_of_its_own() -> None:
    """RT-DETR's code gives cells of a map that is not square the positions of others."""
    positions = sine_positions(3, 5, 8, 10000.0, torch.zeros(1, dtype=torch.double)).view(3, 5, 8)
    assert len(torch.unique(positions.flatten(0, 1), dim=0)) == 15
    assert_same_maps(positions[:, :1, :4].expand(3, 5, 4), positions[..., :4])
    assert_same_maps(positions[:1, :, 4:].expand(3, 5, 4), positions[..., 4:])
    assert sine_positions(1, 900, 8, 10000.0, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_attention_sees_the_whole_of_the_chosen_maps() -> None:
    inputs = maps(8, 8)
    for chosen, other in (((2,), 1), ((1,), 2)):
        neck = example("RT-DETR", attention_indices=chosen)
        with torch.no_grad():
            before = [layer(x) for layer, x in zip(neck.input_convs, inputs, strict=True)]
            changed = before[chosen[0]].clone()
            changed[..., 0, 0] += 1
            difference = neck.encoders[0](changed) - neck.encoders[0](before[chosen[0]])
        assert difference.abs().amax(1).all() and len(neck.encoders) == 1 and other != chosen[0]
    assert not any(example("RT-DETR", num_attention_layers=0).encoders.parameters())


@pytest.mark.parametrize("design", DESIGNS)
def test_fused_copy_computes_the_same(design: str) -> None:
    neck, inputs = example(design), maps(9, 12)
    fused = fuse_convs(neck)
    assert_same_maps(fused(inputs), neck(inputs))
    counts = [sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) for module in (neck, fused)]
    stages = 2 if design == "D-FINE" else 1
    assert counts[0] - counts[1] == 4 * SMALL["num_blocks"] * stages
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())


def test_checkpointing_changes_nothing() -> None:
    plain, frugal = example("RT-DETR").train(), example("RT-DETR", gradient_checkpointing=True).train()
    assert_checkpointing_changes_nothing(plain, frugal, maps(8, 8, requires_grad=True))


def test_extra_levels_follow_the_last_output() -> None:
    specs = [FeatureSpec(channels, 8 << k) for k, channels in enumerate(CHANNELS)]
    neck = build_neck({"type": "HybridEncoder", **SMALL, "extra_levels": {"num_levels": 2}}, specs).double()
    assert [spec.stride for spec in neck.out_specs(specs)] == [8, 16, 32, 64, 128]
    outputs = neck(maps(9, 16))
    assert [m.shape[-2:] for m in outputs] == [(9, 16), (5, 8), (3, 4), (2, 2), (1, 1)]
    assert outputs[3].equal(outputs[2][..., ::2, ::2])


@pytest.mark.mmdet
def test_in_mmdet() -> None:
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.HybridEncoder", "in_channels": [4, *CHANNELS], **SMALL}
    neck = MODELS.build({**config, "num_outs": 5, "start_level": 1, "add_extra_convs": "on_output", **D_FINE})
    neck.init_weights()
    inputs = [torch.randn(1, 4, 16, 24), *(x[:1].float() for x in maps(8, 12))]
    assert [m.shape[-1] for m in neck.eval()(inputs)] == [12, 6, 3, 2, 1]
    with pytest.raises(ValueError, match="num_outs=2 is smaller than the 4 levels"):
        MODELS.build({**config, "num_outs": 2})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "csp"}, r"block='csp' is unknown; choose one of \['elan', 'rep_csp'\]"),
        ({"downsample": "pool"}, "downsample='pool' is unknown"),
        ({"out_channels": 6, "num_heads": 2}, "out_channels=6 must be a multiple of 4"),
        ({"num_heads": 3}, "num_heads=3 must divide the 8 channels"),
        ({"attention_indices": (3,)}, r"attention_indices=\[3\] must be ascending positions among the 3 used maps"),
        ({"block": "elan", "expand_ratio": 0.1}, "expand_ratio=0.1 leaves no channels of half the out_channels=8"),
        ({"extra_levels": {"num_levels": 1, "op": "conv", "source": "input"}}, "use source='output'"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridEncoder(CHANNELS, **{**SMALL, **arguments})


def test_state_dict_keys_are_pinned() -> None:
    convs = [f"input_convs.{i}" for i in range(4)]
    convs += [f"{kind}_convs.{i}" for kind in ("reduce", "downsample") for i in range(3)]
    parts = ("main_conv", "short_conv", "final_conv", "blocks.0.conv1", "blocks.0.conv2")
    convs += [f"{path}_blocks.{i}.{part}" for path in ("top_down", "bottom_up") for i in range(3) for part in parts]
    layers = ("attention.out_proj", "linear1", "linear2", "norm1", "norm2")
    keys = {f"encoders.0.0.{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    keys |= {f"encoders.0.0.attention.in_proj_{part}" for part in ("weight", "bias")}
    assert_pinned("HybridEncoder", keys | normed_keys(*convs))
