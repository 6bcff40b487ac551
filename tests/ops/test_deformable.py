"""Deformable convolution matches mmcv's values, gradients and initialization; its definition matches the operator."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from torch import nn
from versions import COMPILES, EXPORTS, HALF_ON_CPU

from fpn_plugins import FPN
from fpn_plugins.ops.deformable import ModulatedDeformConv2d, by_sampling, deform_conv2d

sides = st.integers(3, 9)


@settings(max_examples=25)
@given(
    size=st.tuples(sides, sides),
    kernel=st.sampled_from([(1, 1), (3, 3), (3, 1)]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    groups=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    modulated=st.booleans(),
)
def test_the_definition_matches_the_operator(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: tuple[int, int],
    modulated: bool,
):
    taps = kernel[0] * kernel[1] * groups[1]
    out = [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, padding, kernel, stride, strict=True)]
    shapes = [(2, 4, *size), (2, 2 * taps, *out), (6, 4 // groups[0], *kernel), (6,), (2, taps, *out)]
    x, offset, weight, bias, mask = (torch.randn(shape, dtype=torch.double) * 1.5 for shape in shapes)
    leaves = [t.requires_grad_() for t in (x, offset, weight, bias, *([mask] if modulated else []))]
    factor = mask if modulated else None
    results = [f(x, offset, weight, bias, stride, padding, (1, 1), factor) for f in (deform_conv2d, by_sampling)]
    assert_same_maps([results[1]], [results[0]])
    gradients = [torch.autograd.grad(result.square().sum(), leaves) for result in results]
    assert_same_gradients(gradients[1], gradients[0])


def pair(**arguments: Any) -> tuple[nn.Module, nn.Module]:
    """mmcv's layer and ours, initialized from the same random state."""
    from mmcv.ops import ModulatedDeformConv2dPack

    layers = []
    for kind, groups in ((ModulatedDeformConv2dPack, "deform_groups"), (ModulatedDeformConv2d, "offset_groups")):
        renamed = {groups if key == "offset_groups" else key: value for key, value in arguments.items()}
        layers.append(kind(4, 6, **renamed).double())
        torch.manual_seed(3)
        layers[-1].init_weights()
    return layers[0], layers[1]


@pytest.mark.mmdet
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("window", [{"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2}, {"offset_groups": 2}])
def test_matches_mmcv(window: dict[str, int], bias: bool):
    theirs, ours = pair(kernel_size=3, bias=bias, **window)
    for (name, p), (own, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert name == own and torch.equal(p, q)
        nn.init.normal_(p, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 7, 9, dtype=torch.double)
    maps = [module(x.requires_grad_()) for module in (theirs, ours)]
    assert_same_maps([maps[1]], [maps[0]])
    gradients = [
        torch.autograd.grad(m.square().sum(), (x, *module.parameters()))
        for m, module in zip(maps, (theirs, ours), strict=True)
    ]
    assert_same_gradients(gradients[1], gradients[0])


def test_an_offset_that_is_no_number_weighs_nothing():
    layer = ModulatedDeformConv2d(2, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.conv_offset.bias.fill_(float("nan"))
        layer.conv_offset.bias[18:] = 0
        assert not layer(torch.randn(1, 2, 5, 5)).any()


def test_works_without_torchvision(monkeypatch: pytest.MonkeyPatch):
    layer, x = filled(), torch.randn(1, 4, 6, 5)
    expected = layer(x)
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    assert_same_maps([layer(x)], [expected])


def filled() -> ModulatedDeformConv2d:
    """Make a layer whose taps are moved."""
    layer = ModulatedDeformConv2d(4, 6, 3, padding=1)
    nn.init.normal_(layer.conv_offset.weight, std=0.3)
    return layer.requires_grad_(False)


@COMPILES
def test_compiles_to_one_graph():
    torch._dynamo.reset()
    layer, x = filled(), torch.randn(1, 4, 6, 5)
    assert_same_maps([torch.compile(layer, fullgraph=True, backend="aot_eager")(x)], [layer(x)])


@EXPORTS
def test_an_exported_program_needs_no_operator_of_torchvision():
    layer = filled()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(layer, (torch.randn(2, 4, 6, 5),), dynamic_shapes=(sides,))
    assert not [node for node in program.graph.nodes if "torchvision" in str(node.target)]
    x = torch.randn(2, 4, 9, 11)
    assert_same_maps([program.module()(x)], [layer(x)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=HALF_ON_CPU)])
def test_autocast(dtype: torch.dtype):
    layer, x = filled(), torch.randn(1, 4, 6, 5)
    with torch.autocast("cpu", dtype):
        got = layer(x)
    torch.testing.assert_close(got.float(), layer(x), rtol=0.1, atol=0.1)


def test_a_neck_leaves_the_initial_offsets_as_they_are():
    neck = FPN([4, 8], 8, conv=partial(ModulatedDeformConv2d, offset_groups=2))
    layers = [layer for layer in neck.modules() if isinstance(layer, ModulatedDeformConv2d)]
    assert len(layers) == 4
    assert not any(bool(layer.conv_offset.weight.any()) for layer in layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups=3 must divide the 4 input channels"),
        ({"groups": 4}, "groups=4 must divide the 6 output channels"),
        ({"offset_groups": 3}, "offset_groups=3 must divide the 4 input channels"),
        ({"kernel_size": 0}, "kernel_size=0 must be at least 1"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        ModulatedDeformConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments})
