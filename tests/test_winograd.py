"""Winograd convolutions against PyTorch's own: results, gradients, and where they have to keep out."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fpn_plugins import FPN, PAFPN, BiFPN
from fpn_plugins.layers import ConvNormAct
from fpn_plugins.ops.memory_format import memory_format_of
from fpn_plugins.winograd import WinogradConv2d, _Convolution, use_winograd
from fpn_plugins.winograd_transforms import BLOCK, PATCH, convolve, transform_kernel, turned, weight_gradient


def make(in_channels: int = 128, out_channels: int = 128, **arguments) -> WinogradConv2d:
    torch.manual_seed(0)
    return WinogradConv2d(in_channels, out_channels, 3, padding=1, **arguments)


def exact(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    bias = None if conv.bias is None else conv.bias.double()
    return F.conv2d(x.double(), conv.weight.double(), bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture
def winograd_calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """One entry per convolution that does not go to PyTorch's."""
    from fpn_plugins import winograd

    calls = []

    def recorded(x, kernel, bias):
        calls.append(tuple(x.shape))
        return convolve(x, kernel, bias)

    monkeypatch.setattr(winograd, "convolve", recorded)
    return calls


ANY_SIZE = {
    "batch": st.integers(1, 2),
    "height": st.integers(1, 23),
    "width": st.integers(1, 23),
    "channels": st.tuples(st.integers(2, 9), st.integers(2, 9)),
    "bias": st.booleans(),
    "channels_last": st.booleans(),
}


def drawn(batch, height, width, channels, bias, channels_last) -> tuple[torch.Tensor, nn.Conv2d]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch, channels[0], height, width).contiguous(memory_format=layout)
    conv = nn.Conv2d(*channels, 3, padding=1, bias=bias)
    return x, conv


@settings(max_examples=25, deadline=None)
@given(case=st.fixed_dictionaries(ANY_SIZE))
def test_any_size_is_convolved(case):
    x, conv = drawn(**case)
    before = x.clone()
    with torch.no_grad():
        y = convolve(x, transform_kernel(conv.weight), conv.bias)
        assert error(y, exact(conv, x)) < 5e-6
    assert torch.equal(x, before) and memory_format_of(y) == memory_format_of(x)


@settings(max_examples=25, deadline=None)
@given(case=st.fixed_dictionaries(ANY_SIZE))
def test_gradients_at_any_size(case):
    x, conv = drawn(**case)
    wanted = gradients_of(
        lambda y, weight, b: F.conv2d(y, weight, b, padding=1), x.double(), copy.deepcopy(conv).double()
    )
    found = gradients_of(_Convolution.apply, x, conv)
    assert len(found) == len(wanted) == 2 + case["bias"]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32 and error(one, other) < 1e-5


def gradients_of(function, x: torch.Tensor, conv: nn.Conv2d) -> tuple[torch.Tensor, ...]:
    """With respect to the map and the parameters, from a gradient that is the same for both types."""
    x = x.detach().requires_grad_()
    y = function(x, conv.weight, conv.bias)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.dtype)
    return torch.autograd.grad(y, (x, *conv.parameters()), gradient)


def test_gradients_are_those_of_the_function():
    x, conv = torch.randn(2, 3, 6, 9, dtype=torch.float64), nn.Conv2d(3, 2, 3).double()
    arguments = (x.requires_grad_(), conv.weight, conv.bias)
    assert torch.autograd.gradcheck(_Convolution.apply, arguments, atol=1e-7, fast_mode=True)


def test_gradients_that_nobody_wants_are_not_computed(monkeypatch: pytest.MonkeyPatch):
    from fpn_plugins import winograd

    computed = []
    monkeypatch.setattr(winograd, "weight_gradient", lambda *a: computed.append("weight") or weight_gradient(*a))
    monkeypatch.setattr(winograd, "turned", lambda *a: computed.append("inputs") or turned(*a))
    conv, x = make(), torch.randn(1, 128, 24, 24)
    conv(x).sum().backward()
    assert computed == ["weight"] and conv.weight.grad is not None and conv.bias.grad is not None
    conv.requires_grad_(False)
    conv(x.requires_grad_()).sum().backward()
    assert computed == ["weight", "inputs"] and x.grad is not None


def test_weights_that_are_computed_have_gradients(winograd_calls: list):
    conv = nn.utils.parametrizations.weight_norm(make(bias=False))
    x = torch.randn(1, 128, 24, 24)
    conv(x).square().sum().backward()
    found = [parameter.grad.clone() for parameter in conv.parameters()]
    conv.zero_grad()
    F.conv2d(x, conv.weight, padding=1).square().sum().backward()
    for one, parameter in zip(found, conv.parameters(), strict=True):
        assert error(one, parameter.grad) < 1e-5
    assert winograd_calls


def test_second_gradients_are_an_error():
    x = torch.randn(1, 128, 24, 24, requires_grad=True)
    (gradient,) = torch.autograd.grad(make()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_maps_of_several_blocks_are_convolved(winograd_calls: list):
    conv, x = make(256, 128), torch.randn(1, 256, 70, 131)
    assert PATCH**2 * (256 + 128) * (72 // 4) * (132 // 4) > 2 * BLOCK
    with torch.no_grad():
        assert error(conv(x), exact(conv, x)) < 5e-6
    assert winograd_calls == [(1, 256, 70, 131)]
    wanted = gradients_of(
        lambda y, weight, b: F.conv2d(y, weight, b, padding=1), x.double(), copy.deepcopy(conv).double()
    )
    for one, other in zip(gradients_of(_Convolution.apply, x, conv), wanted, strict=True):
        assert error(one, other) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"stride": 2}, (24, 24)),
        ({"groups": 2}, (24, 24)),
        ({"dilation": 2}, (24, 24)),
        ({"in_channels": 64}, (24, 24)),
        ({"out_channels": 64}, (24, 24)),
        ({}, (8, 20)),
    ],
)
def test_other_convolutions_are_pytorchs(winograd_calls: list, arguments: dict, size: tuple[int, int]):
    conv = make(**arguments)
    x = torch.randn(1, conv.in_channels, *size)
    with torch.no_grad():
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, *arguments_of(conv)))
    assert winograd_calls == []


def arguments_of(conv: nn.Conv2d) -> tuple:
    return conv.stride, conv.padding, conv.dilation, conv.groups


def test_small_maps_in_training_are_pytorchs(winograd_calls: list):
    conv = make()
    for size, calls in (((20, 28), 0), ((21, 21), 1)):  # 35 and 36 tiles
        conv(torch.randn(1, 128, *size)).sum().backward()
        assert len(winograd_calls) == calls
    with torch.no_grad():
        conv(torch.randn(1, 128, 20, 28))
    assert len(winograd_calls) == 2


def test_regions_count_together_unless_they_are_tiny(winograd_calls: list):
    conv = make()
    for shape, calls in (((9, 128, 7, 7), 1), ((8, 128, 7, 7), 1), ((99, 128, 5, 5), 1), ((99, 128, 6, 6), 2)):
        x = torch.randn(shape)
        assert error(conv(x), exact(conv, x)) < 1e-5 and len(winograd_calls) == calls


def test_autocast_and_other_types_are_pytorchs(winograd_calls: list):
    conv, x = make(), torch.randn(1, 128, 24, 24)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert conv(x).dtype == torch.bfloat16
        assert copy.deepcopy(conv).double()(x.double()).dtype == torch.float64
        assert conv(x[0]).shape == (128, 24, 24)
        assert winograd_calls == []
        conv(x)
    conv.requires_grad_(False)
    conv(x)
    assert len(winograd_calls) == 2


@pytest.mark.parametrize("change", ["in place", "data", "flipped", "state dict", "another parameter"])
def test_changed_weights_count(change: str):
    """As an optimiser, an average of weights, a checkpoint and a conversion change them."""
    conv, x = make(), torch.randn(1, 128, 24, 24)
    with torch.no_grad():
        conv.weight.mul_(100).round_()  # whole numbers, whose sum is the same in any order
        conv(x)
        new = torch.randn_like(conv.weight)
        if change == "in place":
            conv.weight.copy_(new)
        elif change == "flipped":
            conv.weight.data.copy_(conv.weight.flip(3))
        elif change == "data":
            conv.weight.data.copy_(new)
        elif change == "state dict":
            conv.load_state_dict({"weight": new, "bias": conv.bias})
        else:
            conv.weight = nn.Parameter(new)
        assert error(conv(x), exact(conv, x)) < 1e-5


def test_inference_mode_and_what_follows_it():
    conv, x = make(), torch.randn(1, 128, 24, 24)
    with torch.inference_mode():
        first = conv(x)
    with torch.no_grad():
        assert torch.equal(conv(x), first)
    with torch.inference_mode():
        inside = make()
        assert torch.equal(inside(x), first)


def test_transformed_weights_go_when_training_begins():
    conv, x = make(), torch.randn(1, 128, 24, 24)
    with torch.no_grad():
        conv(x)
    assert conv._kernel is not None
    conv(x)
    assert conv._kernel is None


def test_gradients_are_exact_under_autocast():
    conv, x = make(), torch.randn(1, 128, 24, 24, requires_grad=True)
    wanted = torch.autograd.grad(conv(x).square().sum(), (x, conv.weight))
    y = conv(x).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y, (x, conv.weight))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_transforms_and_traces_are_pytorchs(winograd_calls: list):
    conv, x = make(), torch.randn(1, 128, 24, 24)
    gradient = torch.func.grad(lambda y: conv(y).square().sum())(x)
    traced = torch.fx.symbolic_trace(nn.Sequential(conv))
    assert winograd_calls == []
    y = x.clone().requires_grad_()
    conv(y).square().sum().backward()
    assert error(gradient, y.grad) < 1e-5 and error(traced(x), exact(conv, x)) < 1e-5
    with torch.device("meta"), torch.no_grad():  # which is where new tensors go
        assert error(conv(x), exact(conv, x)) < 1e-5


def test_wrong_channels_are_pytorchs_error():
    with torch.no_grad(), pytest.raises(RuntimeError, match="to have 128 channels, but got 130 channels"):
        make()(torch.randn(1, 130, 24, 24))


def test_copies_and_state_dicts_hold_no_transformed_weights():
    conv, x = make(), torch.randn(1, 128, 24, 24)
    with torch.no_grad():
        y = conv(x)
        assert set(conv.state_dict()) == {"weight", "bias"}
        assert len(pickle.dumps(conv)) < 1.2 * 4 * conv.weight.numel()
        for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
            assert other._kernel is None and torch.equal(other(x), y)


@pytest.mark.parametrize("neck_class", [FPN, PAFPN])
def test_necks_give_the_same_maps(winograd_calls: list, neck_class: type):
    channels, sizes = (64, 128), ((37, 50), (19, 25))
    maps = [
        torch.randn(2, c, *size).to(memory_format=torch.channels_last) for c, size in zip(channels, sizes, strict=True)
    ]
    plain = neck_class(channels, 128).eval()
    fast = neck_class(channels, 128, conv="winograd").eval()
    fast.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for found, expected in zip(fast(maps), plain(maps), strict=True):
            assert error(found, expected) < 1e-5
            assert found.stride() == expected.stride()
    assert winograd_calls


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
@pytest.mark.parametrize("neck_class", [FPN, PAFPN])
def test_necks_train_alike(winograd_calls: list, neck_class: type, gradient_checkpointing: bool):
    channels, sizes = (64, 128), ((41, 50), (21, 25))
    torch.manual_seed(0)
    maps = [torch.randn(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    plain = neck_class(channels, 128)
    fast = neck_class(channels, 128, conv="winograd", gradient_checkpointing=gradient_checkpointing)
    fast.load_state_dict(plain.state_dict())
    for found, expected in zip(trained(fast, maps), trained(plain, maps), strict=True):
        assert error(found, expected) < 1e-5
    assert winograd_calls


def trained(neck: nn.Module, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients with respect to maps and parameters."""
    maps = [x.clone().requires_grad_() for x in maps]
    sum((y * torch.linspace(-1, 1, y.shape[-1])).square().sum() for y in neck(maps)).backward()
    return [x.grad for x in (*maps, *neck.parameters())]


def test_scripted_and_exported_necks_have_pytorchs(winograd_calls: list):
    maps = [torch.randn(1, 16, 32, 48), torch.randn(1, 32, 16, 24)]
    neck = FPN((16, 32), 128, conv="winograd").eval()
    with torch.no_grad():
        eager = neck(maps)
        assert len(winograd_calls) == 2
        scripted = torch.jit.script(neck)(maps)
        exported = torch.export.export(neck, (maps,)).module()(maps)
        compiled = torch.compile(neck, backend="eager", fullgraph=True)(maps)
    assert len(winograd_calls) == 2
    for others in (scripted, exported, compiled):
        assert max(error(a, b) for a, b in zip(others, eager, strict=True)) < 1e-5


def test_names_of_convolutions_are_checked():
    with pytest.raises(ValueError, match="conv='fft' is unknown; choose one of"):
        ConvNormAct(8, 8, 3, conv="fft")
    neck = BiFPN([8, 8], 16, num_extra_levels=0, conv="winograd", bias_before_norm=True)
    assert sum(isinstance(module, WinogradConv2d) for module in neck.modules()) > 0
    assert not any(type(module) is nn.Conv2d for module in neck.modules())


def test_networks_that_are_built_are_turned(winograd_calls: list):
    class Other(nn.Conv2d):
        """A toolbox's own, whose forward may be another."""

    network = nn.Sequential(
        nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), Other(128, 128, 3, padding=1)
    ).eval()
    x = torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        expected, keys = network(x), list(network.state_dict())
        assert use_winograd(network) == 1 and use_winograd(network) == 0
        assert [type(layer) for layer in network] == [nn.Conv2d, WinogradConv2d, nn.ReLU, Other]
        assert error(network(x), expected) < 1e-5 and list(network.state_dict()) == keys
    assert len(winograd_calls) == 1


def test_how_many_channels_are_worth_it_can_be_said(winograd_calls: list):
    network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)).eval()
    x = torch.randn(1, 8, 24, 24)
    with torch.no_grad():
        expected = network(x)
        assert [use_winograd(network, number) for number in (17, 16, 8)] == [0, 1, 1]
        assert error(network(x), expected) < 1e-5 and len(winograd_calls) == 2
        assert use_winograd(network, 9) == 0  # of those that are turned already
        assert error(network(x), expected) < 1e-5 and len(winograd_calls) == 3
    with pytest.raises(ValueError, match="min_channels=0 must be at least 1"):
        use_winograd(network, min_channels=0)


@pytest.mark.mmdet
def test_mmdet_takes_it_as_conv_cfg():
    from mmcv.cnn import build_conv_layer
    from mmdet.registry import MODELS

    cfg = {"type": "fpn_plugins.WinogradConv2d"}
    neck = MODELS.build(
        {"type": "fpn_plugins.FPN", "in_channels": [8, 8], "out_channels": 8, "num_outs": 2, "conv_cfg": cfg}
    )
    assert all(isinstance(layer.conv, WinogradConv2d) for layer in neck.output_convs)
    assert isinstance(build_conv_layer(cfg, 8, 8, 3, padding=1), WinogradConv2d)
    head = MODELS.build({"type": "RetinaHead", "num_classes": 3, "in_channels": 8, "feat_channels": 8, "conv_cfg": cfg})
    assert isinstance(head.cls_convs[0].conv, WinogradConv2d)
