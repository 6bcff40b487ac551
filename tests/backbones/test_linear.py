"""Linear layers as convolutions, and what stands before them computed again: the results of the plain layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from fpn_plugins.backbones.linear import linear, linear_after, linear_after_norm, linear_parts_after_norm


@pytest.fixture(
    params=[(1, "AVX512"), (2, "AVX512"), (2, "AVX2")], ids=["linear", "convolutions", "both"], autouse=True
)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's own linear layers, as convolutions, and as convolutions but for the gradients of weights."""
    threads, capability = request.param
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def test_gradients_of_weights_convolve_where_that_is_faster(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpn_plugins.backbones import linear as module

    forward, backward = [], []
    conv2d, conv2d_weight = F.conv2d, module.conv2d_weight
    monkeypatch.setattr(F, "conv2d", lambda *a, **k: forward.append(a) or conv2d(*a, **k))
    monkeypatch.setattr(module, "conv2d_weight", lambda *a, **k: backward.append(a) or conv2d_weight(*a, **k))
    kind = request.node.callspec.id
    layer, x = nn.Linear(12, 20), torch.randn(3, 12, requires_grad=True)
    linear_after(F.gelu, layer, x).sum().backward()
    assert bool(forward) == (kind != "linear") and bool(backward) == (kind == "convolutions")
    forward.clear()
    linear(x, layer.weight, layer.bias).sum().backward()  # PyTorch's own backward pass
    assert bool(forward) == (kind == "convolutions")
    with torch.no_grad():
        linear(x, layer.weight, layer.bias)
    assert bool(forward) == (kind != "linear")


def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(12,), (1, 12), (2, 5, 7, 12)])
def test_linear_equals_torchs(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    layer = nn.Linear(12, 20, bias=bias, dtype=dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    results = []
    for out in (linear(x, layer.weight, layer.bias), layer(x)):
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    assert_close(*results)
    assert results[0][0].is_contiguous()


def test_linear_takes_slices_and_transposed_weights() -> None:
    x, weight = torch.randn(3, 10, 9)[:, ::2, 1:], torch.randn(8, 5)
    assert_close(linear(x, weight.t()), F.linear(x, weight.t()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_what_stands_before_a_layer_is_computed_again(bias: bool, autocast: bool) -> None:
    layer, norm = nn.Linear(12, 20, bias=bias), nn.LayerNorm(12)
    x = torch.randn(2, 5, 12, requires_grad=True)
    results, kept = [], []

    def pack(tensor: Tensor) -> Tensor:
        kept[-1].add(tensor.untyped_storage().data_ptr())
        return tensor

    for run in (lambda: linear_after(normed, layer, x, norm.weight, norm.bias), lambda: layer(norm(x))):
        kept.append(set())
        with torch.autocast("cpu", enabled=autocast), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = run()
        leaves = [x, *layer.parameters(), *norm.parameters()]
        results.append([out, *torch.autograd.grad(out.float().square().sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = 0.05 if autocast else 1e-5
        assert_close(ours, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item())
    assert kept[0] == {t.untyped_storage().data_ptr() for t in (x, layer.weight, norm.weight, norm.bias)}
    assert not kept[1] <= kept[0]


def test_frozen_layers_pass_gradients_on() -> None:
    layer = nn.Linear(12, 20).requires_grad_(False)
    x = torch.randn(3, 12, requires_grad=True)
    linear_after(F.gelu, layer, x).sum().backward()
    assert layer.weight.grad is None
    assert_close(x.grad, torch.autograd.grad(layer(F.gelu(x)).sum(), x)[0])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_normed_layer_in_parts_is_the_layer(bias: bool, grad: bool) -> None:
    layer, norm = nn.Linear(12, 20, bias=bias), nn.LayerNorm(12, eps=0.1)
    x = torch.randn(2, 5, 12, requires_grad=True)
    leaves = [x, *layer.parameters(), *norm.parameters()]
    results = []
    with torch.set_grad_enabled(grad):
        parts = linear_parts_after_norm(norm, layer, x, (5, 15))
        assert all(part.is_contiguous() for part in parts)
        for out in (torch.cat(parts, -1), linear_after_norm(norm, layer, x), layer(norm(x))):
            results.append([out, *(torch.autograd.grad(out.square().sum(), leaves) if grad else ())])
    assert_close(results[0], results[2])
    assert_close(results[1], results[2])


def test_a_layer_with_a_hook_is_called_as_a_module() -> None:
    layer, norm = nn.Linear(12, 20), nn.LayerNorm(12)
    layer.register_forward_hook(lambda module, args, out: 2 * out)
    x = torch.randn(3, 12)
    assert_close(torch.cat(linear_parts_after_norm(norm, layer, x, (5, 15)), -1), layer(norm(x)))
