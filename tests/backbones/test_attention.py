"""Attention with decomposed relative positions: every way gives the definition's numbers, and none holds all scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from fpn_plugins.backbones import blocked_attention as blocked
from fpn_plugins.backbones.attention import (
    Attention,
    blocked_attention,
    fused_attention,
    reference_attention,
    relative_rows,
)

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
WAYS = [fused_attention, blocked_attention]


def arguments(height: int, width: int, heads: int, channels: int, batch: int = 2) -> list[Tensor]:
    """In double precision, so that no tolerance hides a difference."""
    shapes = [(batch, height * width, 3, heads, channels), (height, height, channels), (width, width, channels)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def results(way: Way, inputs: list[Tensor]) -> list[Tensor]:
    """Output and gradients."""
    out = way(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize("way", WAYS)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    heads=st.integers(1, 3),
    channels=st.sampled_from([3, 8, 13]),
    scores=st.sampled_from([1, 50, 300, 1 << 20]),
)
def test_equal_to_the_definition(way: Way, height: int, width: int, heads: int, channels: int, scores: int):
    """Blocks of a single query, of some rows of some heads, and of everything."""
    inputs = arguments(height, width, heads, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "BLOCK_SCORES", scores)
        for ours, expected in zip(results(way, inputs), results(reference_attention, inputs), strict=True):
            assert_close(ours, expected, rtol=0, atol=1e-10)


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocked, "BLOCK_SCORES", 20)
    assert torch.autograd.gradcheck(blocked_attention, arguments(2, 3, heads=2, channels=3, batch=1))


@pytest.mark.parametrize("way", WAYS)
def test_large_scores_stay_finite(way: Way):
    inputs = [500 * x.detach().float() for x in arguments(4, 4, heads=1, channels=8)]
    assert way(*inputs).isfinite().all()


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes, in the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def largest(way: Way, side: int, train: bool) -> int:
    inputs = [x.detach().float().requires_grad_(train) for x in arguments(side, side, heads=2, channels=8, batch=1)]
    with LargestTensor() as seen:
        out = way(*inputs)
        if train:
            out.sum().backward()
    return seen.elements


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_tensor_grows_with_the_square_of_the_tokens(way: Way, train: bool, monkeypatch: pytest.MonkeyPatch):
    """All scores would grow 16-fold from one side to the other. What is left grows with the tokens, 4-fold, but for
    the scores against rows and columns and the one-hot rows, which grow with the side too, as ``N (H + W)``."""
    monkeypatch.setattr(blocked, "BLOCK_SCORES", 1 << 12)
    small, large = largest(way, 16, train), largest(way, 32, train)
    assert large < 2 * 32**4
    assert large / small <= 4 * 1.8


def test_the_definition_does_hold_all_scores():
    """So that the test above can fail."""
    assert largest(reference_attention, 32, train=False) >= 2 * 32**4


def test_tracing_takes_the_fused_kernel_and_no_loop():
    layer = Attention(16, 2, rel_pos_size=(4, 4)).eval()
    graph = str(torch.export.export(layer, (torch.randn(1, 6, 5, 16),)).graph)
    assert graph.count("aten.scaled_dot_product_attention") == 1
    assert "softmax" not in graph


def test_without_relative_positions_it_is_plain_attention():
    layer = Attention(16, 2)
    x = torch.randn(2, 3, 5, 16)
    q, k, v = layer.qkv(x).reshape(2, 15, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = ((q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v).transpose(1, 2).reshape(2, 3, 5, 16)
    assert_close(layer(x), layer.proj(expected), rtol=0, atol=1e-6)
    assert set(dict(layer.named_parameters())) == {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}


def test_heads_have_to_divide_the_channels():
    with pytest.raises(ValueError, match="num_heads=5 must divide the 16 channels"):
        Attention(16, 5)


@pytest.mark.detectron2
@given(size=st.integers(1, 9), length=st.integers(1, 9))
def test_rows_are_detectron2s(size: int, length: int):
    """For tables of the same size, of a larger and of a smaller one."""
    from detectron2.modeling.backbone.utils import get_rel_pos

    table = torch.randn(2 * length - 1, 4)
    assert_close(relative_rows(table, size), get_rel_pos(size, size, table), rtol=0, atol=1e-6)


@pytest.mark.detectron2
@given(height=st.integers(1, 8), width=st.integers(1, 8), batch=st.integers(1, 2), bias=st.booleans())
def test_outputs_and_gradients_are_detectron2s(height: int, width: int, batch: int, bias: bool):
    from detectron2.modeling.backbone.vit import Attention as Theirs

    theirs = Theirs(24, 3, qkv_bias=bias, use_rel_pos=True, rel_pos_zero_init=False, input_size=(5, 4))
    ours = Attention(24, 3, qkv_bias=bias, rel_pos_size=(5, 4))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, height, width, 24)
    grads = []
    for layer in (ours, theirs):
        y = layer(x)
        grads.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    assert [name for name, _ in ours.named_parameters()] != []
    named = dict(zip([name for name, _ in theirs.named_parameters()], grads[1][1:], strict=True))
    expected = [grads[1][0], *(named[name] for name, _ in ours.named_parameters())]
    for got, wanted in zip(grads[0], expected, strict=True):
        assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_autocast_stays_near_and_computes_in_bfloat16():
    layer = Attention(32, 2, rel_pos_size=(6, 6))
    torch.nn.init.normal_(layer.rel_pos_h, std=0.1)
    x = torch.randn(1, 6, 6, 32)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(x)
        got.float().sum().backward()
    assert got.dtype == torch.bfloat16
    assert_close(got.float(), expected, rtol=0, atol=0.02)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())
