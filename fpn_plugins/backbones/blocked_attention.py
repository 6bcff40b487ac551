"""Attention with decomposed relative positions on a CPU: block by block, with the scores of one block in memory.

The letters are those of `attention`; ``h w`` is the grid of the keys, ``n = h w``, where it is not that of the queries.
FlashAttention (arXiv:2205.14135) does the same on a GPU's own memory, and computes the weights again in the backward
pass, as here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .attention_parts import Inputs, blocks, parts

# scores in a buffer: fewer make the matrix products slower, more do not fit into a cache (2^19 .. 2^23 were measured)
BLOCK_SCORES = 1 << 21


def blocked_attention(qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """`attend` for some heads and some rows of queries after the other, `BLOCK_SCORES` scores at a time.

    The backward pass computes each block's scores again. Not differentiable twice.
    """
    qkv = qkv.unflatten(1, (rows_h.shape[0], rows_w.shape[0]))
    return _PackedAttention.apply(qkv, rows_h, rows_w).flatten(1, 2)


def blocked_window_attention(q: Tensor, k: Tensor, v: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """`blocked_attention` inside windows, or over whole maps, with keys and values on a grid of their own.

    Windows that reach over the right and bottom edges are filled up with keys and values of zeros, which take part.
    Queries are not: nothing is computed for what lies outside the map.

    Args:
        q: queries ``B H W M D``.
        k: keys ``B h w M D``, cut into as many windows as the queries.
        v: values, the same shape as ``k``.
        rows_h: rows of the vertical axis for each pair of positions in a window, ``a b D`` for windows of ``a`` rows of
            queries and ``b`` rows of keys.
        rows_w: of the horizontal axis.

    Returns:
        ``B H W M D``.
    """
    return _WindowAttention.apply(q, k, v, rows_h, rows_w)


def position_scores(q: Tensor, rows_h: Tensor, rows_w: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of queries ``... N D`` against the rows of their own position: ``... N h`` and ``... N w``."""
    grid = q.unflatten(-2, (rows_h.shape[0], rows_w.shape[0]))
    return (
        torch.einsum("...yxd,yvd->...yxv", grid, rows_h).flatten(-3, -2),
        torch.einsum("...yxd,xud->...yxu", grid, rows_w).flatten(-3, -2),
    )


class _PackedAttention(torch.autograd.Function):
    """Queries, keys and values in one tensor ``B H W 3 M D``, and so their gradients."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
        q, k, v = qkv.unbind(3)
        out = _forward(Inputs(q, k, v, rows_h, rows_w))
        ctx.save_for_backward(qkv, rows_h, rows_w, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        qkv, rows_h, rows_w, out = ctx.saved_tensors
        q, k, v = qkv.unbind(3)
        grad_qkv = torch.empty_like(qkv)
        return grad_qkv, *_backward(Inputs(q, k, v, rows_h, rows_w), out, grad_out, grad_qkv.unbind(3))


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        out = _forward(Inputs(*inputs))
        ctx.save_for_backward(*inputs, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        *inputs, out = ctx.saved_tensors
        grads = tuple(torch.empty_like(x) for x in inputs[:3])
        return *grads, *_backward(Inputs(*inputs), out, grad_out, grads)


def _forward(inputs: Inputs) -> Tensor:
    """The same two buffers hold every block, because memory fresh from the system costs more than what is computed."""
    out = torch.empty_like(inputs.q, memory_format=torch.contiguous_format)
    buffers = _Buffers(inputs)
    for part in parts(inputs, BLOCK_SCORES):
        q, k, v, rows_h, rows_w = part.read(inputs)
        bias = position_scores(q, rows_h, rows_w)
        attended = torch.empty_like(q)
        for rows in _query_rows(q, k):
            torch.bmm(buffers.weights(q[:, rows], k, bias, rows), v, out=attended[:, rows])
        part.queries.write(out, attended)
    return out


def _backward(inputs: Inputs, out: Tensor, grad_out: Tensor, grads: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Write the gradients of queries, keys and values, and return those of the rows."""
    # all windows add to the same rows, more of them than half precision can count
    dtype = torch.promote_types(inputs.q.dtype, torch.float32)
    grad_h, grad_w = (torch.zeros_like(rows, dtype=dtype) for rows in (inputs.rows_h, inputs.rows_w))
    buffers = _Buffers(inputs)
    for part in parts(inputs, BLOCK_SCORES):
        q, k, v, rows_h, rows_w = part.read(inputs)
        bias = position_scores(q, rows_h, rows_w)
        grad = part.queries.read(grad_out)
        # the softmax's gradient subtracts each query's mean, which is that of its output
        mean = (grad * part.queries.read(out)).sum(-1, keepdim=True)
        grad_q, grad_k, grad_v, *grad_bias = buffers.gradients(q, k, v, bias, grad, mean)
        grid, bias_h, bias_w = (t.unflatten(1, part.grid) for t in (q, *grad_bias))
        grad_q += torch.einsum("pyxv,yvd->pyxd", bias_h, rows_h).flatten(1, 2)
        grad_q += torch.einsum("pyxu,xud->pyxd", bias_w, rows_w).flatten(1, 2)
        grad_h[: part.grid[0]] += torch.einsum("pyxv,pyxd->yvd", bias_h, grid)
        grad_w[: part.grid[1]] += torch.einsum("pyxu,pyxd->xud", bias_w, grid)
        part.queries.write(grads[0], grad_q)
        part.write_keys(grads[1], grad_k)
        part.write_keys(grads[2], grad_v)
    return grad_h.to(inputs.rows_h.dtype), grad_w.to(inputs.rows_w.dtype)


class _Buffers:
    """Room for the scores and for the weights of one block; each call's result lasts until the next."""

    def __init__(self, inputs: Inputs) -> None:
        keys = inputs.rows_h.shape[1] * inputs.rows_w.shape[1]  # of a window
        self.room = inputs.q.new_empty(2, min(max(BLOCK_SCORES, keys), keys * inputs.q[..., 0].numel()))

    def weights(self, q: Tensor, k: Tensor, bias: tuple[Tensor, Tensor], rows: slice) -> Tensor:
        """Attention of the queries ``P N D`` in ``rows`` to all keys, ``P N n``."""
        scores, weights = self._views(q, k)
        on_grid = scores.unflatten(-1, (bias[0].shape[-1], bias[1].shape[-1]))
        torch.add(bias[0][:, rows, :, None], bias[1][:, rows, None, :], out=on_grid)
        scores.baddbmm_(q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        return torch.softmax(scores, -1, out=weights)

    def gradients(
        self, q: Tensor, k: Tensor, v: Tensor, bias: tuple[Tensor, Tensor], grad: Tensor, mean: Tensor
    ) -> tuple[Tensor, ...]:
        """Of queries (but for what the positions add), keys, values, and of both biases."""
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        grad_bias = torch.empty_like(bias[0]), torch.empty_like(bias[1])
        for rows in _query_rows(q, k):
            weights = self.weights(q[:, rows], k, bias, rows)
            grad_v.baddbmm_(weights.transpose(1, 2), grad[:, rows])
            grad_scores = self._grad_scores(grad[:, rows], v, mean[:, rows])
            grad_q[:, rows] = grad_scores @ k
            grad_k.baddbmm_(grad_scores.transpose(1, 2), q[:, rows])
            on_grid = grad_scores.unflatten(-1, (bias[0].shape[-1], bias[1].shape[-1]))
            grad_bias[0][:, rows] = on_grid.sum(-1)
            grad_bias[1][:, rows] = on_grid.sum(-2)
        scale = q.shape[-1] ** -0.5
        return grad_q.mul_(scale), grad_k.mul_(scale), grad_v, *grad_bias

    def _grad_scores(self, grad: Tensor, v: Tensor, mean: Tensor) -> Tensor:
        """Gradient of the scores of the last block of weights, in the scores' place."""
        scores, weights = self._views(grad, v)
        return torch.baddbmm(mean, grad, v.transpose(1, 2), beta=-1, out=scores).mul_(weights)

    def _views(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*queries.shape[:2], keys.shape[1])
        scores, weights = self.room[:, : math.prod(shape)].view(2, *shape).unbind(0)
        return scores, weights


def _query_rows(q: Tensor, k: Tensor) -> Iterator[slice]:
    """As many queries at a time as their scores allow, at least one."""
    return blocks(q.shape[1], BLOCK_SCORES // (q.shape[0] * k.shape[1]))
