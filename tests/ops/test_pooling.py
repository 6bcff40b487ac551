"""Max-pooling on a CPU matches PyTorch's values and gradients for every window."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fpn_plugins.ops.pooling import (
    HalvingAvgPool2d,
    MaxPool2d,
    adaptive_max_pool2d,
    make_traceable,
    max_pool2d,
    max_pool_blocks,
)

sides = st.integers(1, 13)
axes = st.tuples(st.integers(1, 13), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2))


@given(down=axes, across=axes, ceil_mode=st.booleans(), channels_last=st.booleans())
def test_values_and_gradients_match_pytorch(
    down: tuple[int, int, int, int], across: tuple[int, int, int, int], ceil_mode: bool, channels_last: bool
):
    """Windows that overlap, skip cells, reach past the edges; ties, negative values, infinities and NaN."""
    axes = [(side, kernel, stride, min(padding, kernel // 2)) for side, kernel, stride, padding in (down, across)]
    axes = [(max(side, kernel - 2 * padding), kernel, stride, padding) for side, kernel, stride, padding in axes]
    sides, *window = zip(*axes, strict=True)
    x = (torch.randn(2, 3, *sides) - 2).round(decimals=1)
    x[torch.rand(x.shape) < 0.1] = -torch.inf
    x[torch.rand(x.shape) < 0.05] = torch.nan
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    kept = x.clone()
    expected = F.max_pool2d(x, *window, ceil_mode=ceil_mode)
    same(max_pool2d(x, *window, ceil_mode=ceil_mode), expected)
    same(x, kept)
    gradient = torch.randint(-9, 9, expected.shape).float()  # sums are the same in any order
    gradients = []
    for pool in (max_pool2d, F.max_pool2d):
        y = pool(x.requires_grad_(), *window, ceil_mode=ceil_mode)
        same(y.detach(), expected)
        gradients += torch.autograd.grad(y, x, gradient)
    same(*gradients)


@given(down=axes, across=axes, ceil_mode=st.booleans())
def test_the_compiled_form_has_the_same_values(
    down: tuple[int, int, int, int], across: tuple[int, int, int, int], ceil_mode: bool
):
    axes = [(side, kernel, stride, min(padding, kernel // 2)) for side, kernel, stride, padding in (down, across)]
    axes = [(max(side, kernel - 2 * padding), kernel, stride, padding) for side, kernel, stride, padding in axes]
    sides, *window = zip(*axes, strict=True)
    x = torch.randn(2, 3, *sides) - 2
    with mock.patch("fpn_plugins.ops.pooling.compiling", return_value=True):
        compiled = max_pool2d(x, *window, ceil_mode=ceil_mode)
    same(compiled, F.max_pool2d(x, *window, ceil_mode=ceil_mode))


@given(sides=st.tuples(sides, sides), size=st.tuples(sides, sides))
def test_compiled_adaptive_and_block_pooling_match(sides: tuple[int, int], size: tuple[int, int]):
    x = torch.randn(2, 3, *sides)
    smaller = min(sides[0], size[0]), min(sides[1], size[1])
    with mock.patch("fpn_plugins.ops.pooling.compiling", return_value=True):
        adaptive, blocks = adaptive_max_pool2d(x, size), max_pool_blocks(x, smaller)
    same(adaptive, F.adaptive_max_pool2d(x, size))
    same(blocks, max_pool_blocks(x, smaller))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 2), (3, 1)])
def test_compiled_layers_match(size: tuple[int, int]):
    pools = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), nn.MaxPool2d(3, 2, 1)).double()
    x = torch.randn(2, 3, *size, dtype=torch.double)
    expected = pools(x)
    make_traceable(pools)
    same(pools(x), expected)
    with mock.patch("fpn_plugins.ops.pooling.compiling", return_value=True):
        torch.testing.assert_close(pools(x), expected, rtol=1e-12, atol=1e-12)
    assert [type(pool) for pool in pools] == [HalvingAvgPool2d, MaxPool2d]


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("channels_last", "differentiated", "pytorchs"),
    [(False, False, 0), (False, True, 1), (True, False, 1), (True, True, 1)],
)
def test_slices_are_for_inference_on_nchw_maps(
    channels_last: bool, differentiated: bool, pytorchs: int, monkeypatch: pytest.MonkeyPatch
):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, calls, pool = torch.randn(1, 2, 4, 6).contiguous(memory_format=layout), [], F.max_pool2d
    monkeypatch.setattr(F, "max_pool2d", lambda *args, **kwargs: calls.append(args) or pool(*args, **kwargs))
    max_pool2d(x.requires_grad_(differentiated), (2, 2), (2, 2))
    with torch.no_grad():
        max_pool2d(x, (2, 2), (2, 2))
    assert len(calls) == pytorchs + channels_last
