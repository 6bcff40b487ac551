"""Outputs and gradients of the attention of plain ViTs match detectron2 at any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps

from fpn_plugins.backbones.vit.attention import Attention, relative_rows


def test_without_relative_positions_it_is_plain_attention():
    layer = Attention(16, 2).double()
    x = torch.randn(2, 3, 5, 16, dtype=torch.double)
    q, k, v = layer.qkv(x).reshape(2, 15, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = ((q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v).transpose(1, 2).reshape(2, 3, 5, 16)
    assert_same_maps(layer(x), layer.proj(expected))
    assert set(dict(layer.named_parameters())) == {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="num_heads=5 must divide the 16 channels"):
        Attention(16, 5)


@pytest.mark.detectron2
@given(size=st.integers(1, 9), length=st.integers(1, 9))
def test_rows_match_detectron2(size: int, length: int):
    """For tables of the same size, of a larger and of a smaller one."""
    from detectron2.modeling.backbone.utils import get_rel_pos

    table = torch.randn(2 * length - 1, 4, dtype=torch.double)
    assert_same_maps(relative_rows(table, size), get_rel_pos(size, size, table))


@pytest.mark.detectron2
@given(height=st.integers(1, 8), width=st.integers(1, 8), batch=st.integers(1, 2), bias=st.booleans())
def test_outputs_and_gradients_match_detectron2(height: int, width: int, batch: int, bias: bool):
    from detectron2.modeling.backbone.vit import Attention as Theirs

    theirs = Theirs(24, 3, qkv_bias=bias, use_rel_pos=True, rel_pos_zero_init=False, input_size=(5, 4)).double()
    ours = Attention(24, 3, qkv_bias=bias, rel_pos_size=(5, 4)).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, height, width, 24, dtype=torch.double)
    outputs, gradients = [], []
    for layer in (ours, theirs):
        outputs.append(layer(x))
        outputs[-1].square().sum().backward()
        gradients.append({name: p.grad for name, p in layer.named_parameters()})
    assert_same_maps(*outputs)
    assert_same_gradients(*gradients)


def test_autocast_stays_near_and_computes_in_bfloat16():
    layer = Attention(32, 2, rel_pos_size=(6, 6))
    torch.nn.init.normal_(layer.rel_pos_h, std=0.1)
    x = torch.randn(1, 6, 6, 32)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(x)
        got.float().sum().backward()
    assert got.dtype == torch.bfloat16
    assert (got.float() - expected).norm() < 0.02 * expected.norm()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())
