"""Outputs and gradients of all forms of attention match the definition, and the choice follows the documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_maps
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from versions import EXPORTS

from fpn_plugins.backbones.swin.window_attention import reference_window_attention
from fpn_plugins.backbones.vit.attention import reference_attention, relative_bias
from fpn_plugins.ops.attention import attend, attend_windows, blocked, choose_form, forms, grids
from fpn_plugins.ops.attention.forms import AxialBias, Form

AXIAL = [forms.plain, forms.masked, forms.widened, forms.widened_narrow, forms.blocked]
DENSE = [forms.plain, forms.masked]
GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7))


def names(values: list[Form]) -> list[str]:
    return [form.__name__ for form in values]


def with_gradients(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Output and gradients."""
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("form", AXIAL, ids=names(AXIAL))
@given(
    q_grid=GRIDS,
    k_grid=GRIDS,
    heads=st.integers(1, 3),
    channels=st.sampled_from([3, 8, 13]),
    scores=st.sampled_from([1, 50, 300, 1 << 20]),
)
def test_relative_positions_match_the_definition(
    form: Form, q_grid: tuple[int, int], k_grid: tuple[int, int], heads: int, channels: int, scores: int
) -> None:
    """Self-attention and pooled keys; blocks of one query, of some heads, and of everything."""

    def ours(q: Tensor, k: Tensor, v: Tensor, *rows: Tensor) -> Tensor:
        bias = (x.flatten(2, 3) for x in relative_bias(q.unflatten(2, q_grid), *rows))
        return form(q, k, v, AxialBias(*bias), channels**-0.5)

    queries, keys = ((2, heads, height * width, channels) for height, width in (q_grid, k_grid))
    rows = [(q, k, channels) for q, k in zip(q_grid, k_grid, strict=True)]
    inputs = drawn(queries, keys, keys, *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "BLOCK_SCORES", scores)
        reference = with_gradients(reference_attention, inputs)
        assert_same_maps(with_gradients(ours, inputs), reference, floor=1e-2)


@pytest.mark.parametrize("form", DENSE, ids=names(DENSE))
@given(windows=st.integers(1, 5), heads=st.integers(1, 3), tokens=st.integers(1, 20), shifted=st.booleans())
def test_windows_match_the_definition(form: Form, windows: int, heads: int, tokens: int, shifted: bool) -> None:
    """One bias for all windows, and one bias per window."""
    inputs = drawn(*[(windows, heads, tokens, 8)] * 3, (windows if shifted else 1, heads, tokens, tokens))
    results = [with_gradients(lambda *x, f=f: f(*x, 0.4), inputs) for f in (form, reference_window_attention)]
    assert_same_maps(*results, floor=1e-2)


@given(
    windows=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    missing=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    sizes=st.sampled_from([(4, 1), (4, 2), (4, 4), (2, 4)]),
)
def test_windows_one_by_one_match_all_at_once(
    windows: tuple[int, int], missing: tuple[int, int], sizes: tuple[int, int]
) -> None:
    """Queries do not fill the last windows; the number of keys follows from their stride."""
    q_size, k_size = sizes
    q_grid = [max(1, n * q_size - few) for n, few in zip(windows, missing, strict=True)]
    k_grid = [-(-side * k_size // q_size) for side in q_grid]
    q, k = (2, 2, *q_grid, 3), (2, 2, *k_grid, 3)
    inputs = drawn(q, k, k, (*q[:4], k_size), (*q[:4], k_size))
    results = []
    for form in (grids._window_by_window, grids._all_windows):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grids, "_window_by_window", form)
            results.append(
                with_gradients(lambda q, k, v, *b: attend_windows(q, k, v, AxialBias(*b), q_size, k_size), inputs)
            )
    assert_same_maps(*results, floor=1e-2)


def test_without_a_bias_and_a_scale_it_is_plain_attention() -> None:
    q, k, v = drawn(*[(2, 3, 5, 8)] * 3)
    assert_same_maps(attend(q, k, v), (q @ k.mT / 8**0.5).softmax(-1) @ v)


def test_gradients_of_blocks_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCK_SCORES", 20)
    inputs = drawn((1, 2, 6, 3), (1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 6, 2), (1, 2, 6, 2))
    assert torch.autograd.gradcheck(lambda *x: blocked.blocked_attention(*x, 0.5), inputs)


@pytest.mark.parametrize("form", AXIAL, ids=names(AXIAL))
def test_a_bias_broadcasts_and_no_queries_are_none(form: Form) -> None:
    q, k, v, rows, columns = (x.detach() for x in drawn(*[(3, 2, 16, 8)] * 3, *[(1, 2, 1, 4)] * 2))
    full = AxialBias(*(x.expand(3, 2, 16, 4) for x in (rows, columns)))
    assert_same_maps(form(q, k, v, AxialBias(rows, columns), 0.4), forms.plain(q, k, v, full, 0.4))
    assert form(q[:, :, :0], k, v, AxialBias(rows[:, :, :0], columns[:, :, :0]), 0.4).shape == (3, 2, 0, 8)


@pytest.mark.parametrize("form", AXIAL, ids=names(AXIAL))
def test_large_scores_stay_finite(form: Form) -> None:
    q, k, v, rows, columns = (500 * x.detach().float() for x in drawn(*[(1, 1, 16, 8)] * 3, *[(1, 1, 16, 4)] * 2))
    assert form(q, k, v, AxialBias(rows, columns), 1.0).isfinite().all()


@pytest.mark.parametrize("form", AXIAL, ids=names(AXIAL))
def test_half_precision_stays_near(form: Form) -> None:
    """bfloat16 has 8 bits, of which each product and sum loses some; gradients included."""
    results = []
    inputs = [x.detach() for x in drawn(*[(2, 2, 36, 16)] * 3, *[(2, 2, 36, 6)] * 2, dtype=torch.float32)]
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        results.append(with_gradients(lambda q, k, v, *b: form(q, k, v, AxialBias(*b), 0.25), leaves))
    for half, single in zip(*results, strict=True):
        assert half.dtype == torch.bfloat16
        assert (half - single).norm() < 0.05 * single.norm()


# -------------------------------------------------------------------------------------------------------------- memory


class LargestTensor(TorchDispatchMode):
    """Record the elements of the largest tensor that any operation creates, including the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def largest(form: Form, side: int, train: bool) -> int:
    shapes = [(1, 2, side**2, 8)] * 3 + [(1, 2, side**2, side)] * 2
    inputs = [x.detach().requires_grad_(train) for x in drawn(*shapes, dtype=torch.float32)]
    with LargestTensor() as seen:
        out = form(*inputs[:3], AxialBias(*inputs[3:]), 1.0)
        if train:
            out.sum().backward()
    return seen.elements


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("form", [forms.widened, forms.blocked], ids=["widened", "blocked"])
def test_no_tensor_grows_with_the_square_of_the_tokens(form: Form, train: bool, monkeypatch: Any) -> None:
    """From one side to the next, all scores would grow 16-fold; the bias, ``N (H + W)``, grows 8-fold."""
    monkeypatch.setattr(blocked, "BLOCK_SCORES", 1 << 12)
    small, large = largest(form, 16, train), largest(form, 32, train)
    assert large < 2 * 32**4
    assert large / small <= 8


def test_other_forms_hold_all_scores() -> None:
    """Shows that the test above can fail."""
    assert min(largest(form, 32, train=False) for form in (forms.plain, forms.masked)) >= 2 * 32**4


# -------------------------------------------------------------------------------------------------------------- choice


def test_a_bias_that_learns_alone_is_training() -> None:
    """Fused kernels of a CPU have no gradient for their mask."""
    q, k, v = (x.detach() for x in drawn(*[(2, 2, 9, 8)] * 3))
    bias = torch.zeros(1, 2, 9, 9, dtype=q.dtype, requires_grad=True)
    assert choose_form(q, k, v, bias) is forms.plain
    rows = torch.zeros(2, 2, 9, 3, dtype=q.dtype, requires_grad=True)
    assert choose_form(q, k, v, AxialBias(rows, rows)) is forms.plain


def chosen(device: str, grid: int, train: bool, dtype: torch.dtype, axial: bool, heads: int = 2) -> str:
    """Name of the form for a square grid, without a tensor of that device."""
    tokens = grid * grid
    with FakeTensorMode():
        q, k, v = (torch.empty(1, heads, tokens, 8, device=device, dtype=dtype, requires_grad=train) for _ in range(3))
        shapes = [(1, heads, tokens, grid)] * 2 if axial else [(1, heads, tokens, tokens)]
        bias = [torch.empty(shape, device=device, dtype=dtype) for shape in shapes]
        return choose_form(q, k, v, AxialBias(*bias) if axial else bias[0]).__name__


@pytest.mark.parametrize(
    ("device", "grid", "dtype", "axial", "inference", "training"),
    [
        ("cpu", 7, torch.float32, False, "masked", "plain"),
        ("cuda", 7, torch.float32, False, "masked", "plain"),
        ("cuda", 8, torch.bfloat16, False, "plain", "masked"),
        ("cuda", 12, torch.bfloat16, False, "masked", "masked"),
        ("cpu", 7, torch.float32, True, "masked", "plain"),
        ("cpu", 14, torch.float32, True, "masked", "blocked"),
        ("cpu", 64, torch.bfloat16, True, "blocked", "blocked"),
        ("cuda", 14, torch.bfloat16, True, "masked", "widened"),
        ("cuda", 14, torch.float32, True, "masked", "masked"),
        ("cuda", 64, torch.float16, True, "widened", "widened"),
        ("cuda", 124, torch.float16, True, "widened", "widened"),
        ("cuda", 125, torch.bfloat16, True, "widened_narrow", "widened_narrow"),
        ("cuda", 64, torch.float32, True, "masked", "masked"),
        ("cuda", 160, torch.float32, True, "widened_narrow", "widened_narrow"),
    ],
)
def test_the_form_is_the_documented_one(
    device: str, grid: int, dtype: torch.dtype, axial: bool, inference: str, training: str
) -> None:
    assert chosen(device, grid, False, dtype, axial) == inference
    assert chosen(device, grid, True, dtype, axial) == training
    with torch.no_grad():
        assert chosen(device, grid, True, dtype, axial) == inference


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels", [13, 64, 200])
@pytest.mark.parametrize("grid", [32, 96, 128, 160])
def test_large_maps_fit_a_fused_kernel(
    grid: int, channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA: flash kernels need three equal widths of at most 256, memory-efficient ones multiples of 8 channels."""
    calls = []

    def record(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
        calls.append([x.shape[-1] for x in (q, k, v)])
        assert attn_mask is None or attn_mask.numel() * attn_mask.element_size() <= 2 << 30
        return v

    monkeypatch.setattr(forms.F, "scaled_dot_product_attention", record)
    with FakeTensorMode():
        q, k, v = (torch.empty(1, 12, grid**2, channels, device="cuda", dtype=dtype) for _ in range(3))
        rows, columns = (torch.empty(1, 12, grid**2, grid, device="cuda", dtype=dtype) for _ in range(2))
        assert attend(q, k, v, AxialBias(rows, columns)).shape == q.shape
    ((queries, keys, values),) = calls
    flash = queries == keys == values <= 256
    masked = dtype == torch.float32 and 12 * grid**4 * 4 <= 2 << 30
    assert flash or masked or (queries == keys and queries % 8 == values % 8 == 0)


@EXPORTS
def test_a_trace_has_one_kernel_and_no_loop() -> None:
    class Axial(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            return attend(q, k, v, AxialBias(rows, columns))

    inputs = tuple(x.detach() for x in drawn(*[(1, 2, 30, 16)] * 3, (1, 2, 30, 6), (1, 2, 30, 5)))
    graph = str(torch.export.export(Axial(), inputs).graph)
    assert graph.count("aten.scaled_dot_product_attention") == 1
    assert "softmax" not in graph
