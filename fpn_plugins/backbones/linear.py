"""Linear layers of transformers on large maps: fast on CPUs, and frugal in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from ..ops.tracing import traced


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``; in single precision on a CPU as a 1x1 convolution, where that is no slower.

    PyTorch hands matrix products to MKL and convolutions to oneDNN. On AMD's processors the latter is faster: on an
    EPYC with AVX-512 it took 0.45 of the time forward, 0.55 backward. On one with AVX2 alone it took 0.95 forward, but
    thrice the time for the gradient with respect to the weight, which is left to MKL there. Nothing is copied for it:
    tokens with channels last are a map with channels last.

    Args:
        x: ``... C_in``.
        weight: ``C_out C_in``.
        bias: ``C_out``.
    """
    if not _convolves(x) or (torch.is_grad_enabled() and not _gradients_convolve()):
        return F.linear(x, weight, bias)
    return _tokens(F.conv2d(_as_map(x), weight[:, :, None, None], bias), x.shape[:-1])


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of ``module`` is what ``kind`` computes, and nothing else.

    It is not where something else stands in the module's place (an adapter, a quantised layer), nor with hooks: such a
    module has to be called.
    """
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return type(module) is kind and not any(hooks) and "forward" not in module.__dict__


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)``; a plain ``nn.Linear`` by `linear`."""
    if traced() or not is_plain(layer, nn.Linear):
        return layer(x)
    return linear(x, layer.weight, layer.bias)


def linear_after(cheap: Callable[..., Tensor], layer: nn.Linear, x: Tensor, *parameters: Tensor) -> Tensor:
    """``layer(cheap(x, *parameters))``, of which the backward pass keeps only ``x``.

    What stands before a linear layer, a norm or an activation, is as large as its input and costs next to nothing: it
    is computed again, the layer itself is not (but for one that `apply_linear` calls as it is). Not differentiable
    twice.

    Args:
        cheap: a function of its arguments alone, free of randomness.
        layer: what follows.
        x: the only large tensor that ``cheap`` reads.
        parameters: what else it reads that gets gradients.
    """
    if not torch.is_grad_enabled() or traced() or x.is_meta or not is_plain(layer, nn.Linear):
        return apply_linear(layer, cheap(x, *parameters))
    return _LinearAfter.apply(cheap, x, layer.weight, layer.bias, *parameters)


def _unchanged(x: Tensor) -> Tensor:
    return x


def linear_after_norm(
    norm: nn.LayerNorm,
    layer: nn.Linear,
    x: Tensor,
    before: Callable[[Tensor], Tensor] = _unchanged,
    after: Callable[[Tensor], Tensor] = _unchanged,
) -> Tensor:
    """``layer(after(norm(before(x))))``, of which the backward pass keeps only ``x``; see `linear_after`.

    What a norm returns is kept where it is another than a plain ``nn.LayerNorm``, which has to be called.

    Args:
        norm: over the channels.
        layer: what follows.
        x: ``... C``.
        before: arranges tokens for the norm, without parameters.
        after: arranges tokens for the layer, without parameters.
    """
    if traced() or not _is_plain_norm(norm):
        return apply_linear(layer, after(norm(before(x))))
    bare = _bare(norm)

    def cheap(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return after(bare(before(x), weight, bias))

    return linear_after(cheap, layer, x, norm.weight, norm.bias)


def linear_parts_after_norm(norm: nn.LayerNorm, layer: nn.Linear, x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """`linear_after_norm`, its channels split into parts of ``sizes``; of plain modules each part lies in one piece."""
    if traced() or x.is_meta or not is_plain(layer, nn.Linear) or not _is_plain_norm(norm):
        return list(linear_after_norm(norm, layer, x).split(list(sizes), -1))
    weights = layer.weight.split(list(sizes))
    biases = [None] * len(weights) if layer.bias is None else layer.bias.split(list(sizes))
    cheap, parameters = _bare(norm), (norm.weight, norm.bias)
    if torch.is_grad_enabled():
        return [_LinearAfter.apply(cheap, x, *pair, *parameters) for pair in zip(weights, biases, strict=True)]
    normed = cheap(x, *parameters)
    return [linear(normed, weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _is_plain_norm(norm: nn.LayerNorm) -> bool:
    return is_plain(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None


def _bare(norm: nn.LayerNorm) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A plain norm as a function of tokens, weight and bias."""
    return lambda x, weight, bias: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


class _LinearAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cheap: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.cheap = cheap
        ctx.autocast = torch.is_autocast_enabled(x.device.type), torch.get_autocast_dtype(x.device.type)
        ctx.save_for_backward(x, weight, *parameters)
        return linear(cheap(x, *parameters), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        enabled, dtype = ctx.autocast
        with torch.autocast(grad.device.type, dtype, enabled):
            sources = [source.detach().requires_grad_() for source in (x, *parameters)]
            with torch.enable_grad():
                before = ctx.cheap(*sources)
            grad_before = linear(grad, weight.t().to(grad.dtype)).to(before.dtype)
            grad_x, *grad_parameters = torch.autograd.grad(before, sources, grad_before)
            grad_weight = _weight_gradient(before.detach().to(grad.dtype), grad) if needs_weight else None
            grad_bias = grad.flatten(0, -2).sum(0) if needs_bias else None
        return None, grad_x, grad_weight, grad_bias, *grad_parameters


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    if not _convolves(x) or not _gradients_convolve():
        return grad.flatten(0, -2).t() @ x.flatten(0, -2)
    shape = (grad.shape[-1], x.shape[-1], 1, 1)
    return conv2d_weight(_as_map(x), shape, _as_map(grad)).flatten(1)


def _convolves(x: Tensor) -> bool:
    """Whether PyTorch would take oneDNN's convolution, and does not take it for linear layers (reduced precision)."""
    if traced() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    if torch.get_num_threads() == 1:  # PyTorch then has a slower one of its own for 1x1
        return False
    available = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return available and not torch.is_autocast_enabled("cpu") and x.numel() > 0  # convolutions refuse empty maps


def _gradients_convolve() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _as_map(x: Tensor) -> Tensor:
    """Tokens ``... C`` as one map ``1 C T 1`` with channels last."""
    return x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _tokens(x: Tensor, shape: torch.Size) -> Tensor:
    """The tokens of a map ``1 C T 1`` as ``*shape C``."""
    return x.permute(0, 2, 3, 1).reshape(*shape, x.shape[1])
