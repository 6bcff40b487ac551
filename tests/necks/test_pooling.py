"""Max-pooling by slices: PyTorch's values for every window, and PyTorch's own where there are gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fpn_plugins.necks.pooling import max_pool2d

axes = st.tuples(st.integers(1, 13), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2))


@given(down=axes, across=axes, ceil_mode=st.booleans(), channels_last=st.booleans())
def test_values_are_pytorchs(
    down: tuple[int, int, int, int], across: tuple[int, int, int, int], ceil_mode: bool, channels_last: bool
):
    """Windows that overlap, that leave cells out, that reach over the edges; negative values, infinities and NaN."""
    axes = [(side, kernel, stride, min(padding, kernel // 2)) for side, kernel, stride, padding in (down, across)]
    axes = [(max(side, kernel - 2 * padding), kernel, stride, padding) for side, kernel, stride, padding in axes]
    sides, *window = zip(*axes, strict=True)
    x = torch.randn(2, 3, *sides) - 2
    x[torch.rand(x.shape) < 0.1] = -torch.inf
    x[torch.rand(x.shape) < 0.05] = torch.nan
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    kept = x.clone()
    got = max_pool2d(x, *window, ceil_mode=ceil_mode)
    torch.testing.assert_close(got, F.max_pool2d(x, *window, ceil_mode=ceil_mode), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(x, kept, rtol=0, atol=0, equal_nan=True)


def test_slices_serve_inference_and_pytorch_serves_training(monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(1, 2, 4, 6)
    expected = F.max_pool2d(x, 2)
    calls = []
    monkeypatch.setattr(F, "max_pool2d", lambda *args, **kwargs: calls.append(args) or expected)
    assert torch.equal(max_pool2d(x, (2, 2), (2, 2)), expected) and not calls
    max_pool2d(x.requires_grad_(), (2, 2), (2, 2))
    assert len(calls) == 1
    with torch.no_grad():
        max_pool2d(x, (2, 2), (2, 2))
    assert len(calls) == 1
