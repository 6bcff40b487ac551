"""The shared layers match the toolboxes' own layers and formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from precision import assert_same_gradients, assert_same_maps
from torch import nn

from fpn_plugins import NECKS
from fpn_plugins.layers import (
    ACTIVATIONS,
    INITS,
    NORMS,
    ConvNormAct,
    LayerNorm2d,
    init_convs,
    make_act,
    make_conv,
    make_norm,
)
from fpn_plugins.resampling import make_resample


def randomized(module: nn.Module) -> nn.Module:
    """Give every parameter a value that its default (ones, zeros) would hide."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.mark.detectron2
def test_layer_norm_matches_detectron2():
    from detectron2.layers.batch_norm import LayerNorm

    ours = randomized(LayerNorm2d(6)).double()
    theirs = LayerNorm(6).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 5, 3, dtype=torch.double)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    assert_same_maps(ours(a), theirs(b))
    (ours(a).pow(3).sum() + theirs(b).pow(3).sum()).backward()
    assert_same_gradients([a.grad, ours.weight.grad, ours.bias.grad], [b.grad, theirs.weight.grad, theirs.bias.grad])


def test_layer_norm_takes_any_memory_format_and_keeps_channels_last():
    norm = randomized(LayerNorm2d(6)).double()
    x = torch.randn(2, 6, 5, 3, dtype=torch.double)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_same_maps(norm(last), norm(x))
    assert_same_maps(norm(x.flip(-1).transpose(2, 3)), norm(x).flip(-1).transpose(2, 3))
    assert norm(last).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [None, "", *NORMS, nn.InstanceNorm2d])
def test_convolution_has_a_bias_exactly_without_a_norm(norm):
    block = ConvNormAct(4, 32, 3, norm=norm)
    assert (block.conv.bias is None) == (block.norm is not None) == bool(norm)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_norm_act_is_its_parts_in_order_and_rounds_up(kernel_size: int, stride: int):
    block = ConvNormAct(4, 32, kernel_size, stride=stride, norm="GN", act="relu").double()
    x = torch.randn(2, 4, 7, 10, dtype=torch.double)
    convolved = F.conv2d(x, block.conv.weight, stride=stride, padding=kernel_size // 2)
    assert convolved.shape[-2:] == (math.ceil(7 / stride), math.ceil(10 / stride))
    assert_same_maps(block(x), F.group_norm(convolved, 32, block.norm.weight, block.norm.bias).relu())


def test_conv_norm_act_passes_its_arguments_to_a_conv_factory():
    calls = []

    def factory(*args: int, **kwargs: object) -> nn.Module:
        calls.append((args, kwargs))
        return nn.Identity()

    ConvNormAct(4, 8, 3, stride=2, norm="BN", conv=factory)
    assert calls == [((4, 8, 3), {"stride": 2, "padding": 1, "bias": False})]


@pytest.mark.parametrize(
    ("name", "kind"), [("BN", nn.BatchNorm2d), ("SyncBN", nn.SyncBatchNorm), ("GN", nn.GroupNorm), ("LN", LayerNorm2d)]
)
def test_norms_by_name(name: str, kind: type[nn.Module]):
    norm = make_norm(name, 64)
    assert type(norm) is kind
    assert norm.weight.numel() == 64


def test_group_norm_has_32_groups_and_says_when_they_do_not_fit():
    assert make_norm("GN", 64).num_groups == 32
    with pytest.raises(ValueError, match="norm='GN' needs channels divisible by 32, got 48"):
        make_norm("GN", 48)


def test_nothing_and_factories_instead_of_names():
    for nothing in (None, ""):
        assert make_norm(nothing, 8) is None
        assert make_act(nothing) is None
    assert make_norm(nn.InstanceNorm2d, 8).num_features == 8
    assert isinstance(make_act(nn.Tanh), nn.Tanh)


@pytest.mark.parametrize(
    ("name", "function"),
    [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu), ("leaky_relu", lambda x: F.leaky_relu(x, 0.1))],
)
def test_activations_by_name_leave_their_input_alone(name: str, function: Callable):
    x = torch.randn(4, 5)
    before = x.clone()
    assert torch.equal(make_act(name)(x), function(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("build", "argument", "choices"),
    [
        (lambda: make_norm("BatchNorm", 8), "norm='BatchNorm'", NORMS),
        (lambda: make_act("ReLU"), "act='ReLU'", ACTIVATIONS),
        (lambda: init_convs(nn.Conv2d(1, 1, 1), "xavier"), "init='xavier'", INITS),
    ],
    ids=["norm", "act", "init"],
)
def test_an_unknown_name_lists_the_choices(build: Callable, argument: str, choices: dict):
    with pytest.raises(ValueError, match=re.escape(f"{argument} is unknown; choose one of {sorted(choices)}")):
        build()


def test_convolutions_have_no_names():
    assert make_conv(None) is nn.Conv2d and make_conv(nn.ConvTranspose2d) is nn.ConvTranspose2d
    with pytest.raises(ValueError, match="conv='ConvWS' is unknown; pass None or a factory"):
        make_conv("ConvWS")


@pytest.mark.parametrize("kind", ["FPN", "PAFPN", "BiFPN", "NASFPN", "CSPPAFPN"])
def test_winograd_convolutions_are_removed_and_the_error_names_what_is_better(kind: str):
    with pytest.raises(ValueError, match="were removed; use channels-last .*torch.compile .*ONNX Runtime or OpenVINO"):
        NECKS[kind]([32, 32, 32], conv="winograd")


FAN_IN, FAN_OUT = 48 * 9, 96 * 9


@pytest.mark.parametrize(
    ("init", "bound"),
    [("caffe2_xavier", math.sqrt(3 / FAN_IN)), ("xavier_uniform", math.sqrt(6 / (FAN_IN + FAN_OUT)))],
)
def test_uniform_inits_fill_their_interval(init: str, bound: float):
    conv = nn.Conv2d(48, 96, 3)
    init_convs(conv, init)
    assert bound * 0.999 < conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert conv.weight.mean().abs() < bound / 100


def test_kaiming_normal_has_the_fan_out_deviation():
    conv = nn.Conv2d(48, 96, 3)
    init_convs(conv, "kaiming_normal")
    deviation = math.sqrt(2 / FAN_OUT)
    assert conv.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert conv.weight.abs().max() > 3 * deviation  # normal, not uniform


def test_kaiming_normal_has_the_gain_of_a_leaky_relu():
    convs = [ConvNormAct(48, 96, 3, act=act) for act in ("relu", partial(nn.LeakyReLU, 0.5))]
    for conv in convs:
        torch.manual_seed(0)
        init_convs(nn.Sequential(conv), "kaiming_normal")
    assert_same_maps([convs[1].conv.weight * 1.25**0.5], [convs[0].conv.weight])


@pytest.mark.parametrize("init", INITS)
def test_every_init_zeroes_biases_at_any_depth_and_leaves_norms(init: str):
    module = nn.Sequential(nn.Sequential(nn.Conv2d(4, 8, 3)), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False))
    nn.init.constant_(module[1].bias, 7.0)
    before = [module[0][0].weight.clone(), module[2].weight.clone()]
    init_convs(module, init)
    assert torch.count_nonzero(module[0][0].bias) == 0
    assert torch.equal(module[1].bias, torch.full((8,), 7.0))
    assert not torch.equal(module[0][0].weight, before[0]) and not torch.equal(module[2].weight, before[1])


def test_no_init_leaves_the_initialization_of_pytorch():
    conv = nn.Conv2d(4, 8, 3)
    before = {key: value.clone() for key, value in conv.state_dict().items()}
    init_convs(conv, None)
    assert all(torch.equal(value, before[key]) for key, value in conv.state_dict().items())


@pytest.mark.detectron2
def test_caffe2_xavier_matches_detectron2():
    from fvcore.nn.weight_init import c2_xavier_fill

    ours, theirs = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)
    torch.manual_seed(1)
    init_convs(ours, "caffe2_xavier")
    torch.manual_seed(1)
    c2_xavier_fill(theirs)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize(
    ("scale", "width"), [(8, 4), (4, 8), (2, 16), (1, 32), (Fraction(1, 2), 32), (Fraction(1, 4), 32)]
)
def test_resampling_by_powers_of_two(scale: Fraction, width: int) -> None:
    x = torch.randn(2, 32, 5, 9)
    for halve, channels in ((True, width), (False, 32)):
        out = make_resample(32, Fraction(scale), norm="LN", halve_channels=halve)(x)
        assert out.shape == (2, channels, int(5 * scale), int(9 * scale))
    norms = [layer for layer in make_resample(32, Fraction(scale), norm="LN") if isinstance(layer, LayerNorm2d)]
    assert len(norms) == max(int(scale).bit_length() - 2, 0)


def test_resampling_errors() -> None:
    with pytest.raises(ValueError, match=r"scale=3 must be a power of two"):
        make_resample(8, Fraction(3))
    with pytest.raises(ValueError, match="channels=6 .* multiple of 4"):
        make_resample(6, Fraction(4), halve_channels=True)
