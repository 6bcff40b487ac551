"""Attention with an `AxialBias` on a CPU, block by block, with only one block's scores in memory.

As in FlashAttention (arXiv:2205.14135) for GPUs, the backward pass recomputes the attention weights.

Letters in the shapes: ``P`` heads of all images and windows, ``N`` queries, ``n = h w`` keys, ``D`` channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# scores in a buffer: fewer slow down the matrix products, more do not fit into a cache (2^19 .. 2^23 were measured)
BLOCK_SCORES = 1 << 21


class _Inputs(NamedTuple):
    """Arguments of `blocked_attention`, with the heads of all images in one dimension."""

    q: Tensor  # P N D
    k: Tensor  # P n D
    v: Tensor  # P n D
    rows: Tensor  # P N h
    columns: Tensor  # P N w
    scale: float

    def block(self, heads: slice, queries: slice) -> _Inputs:
        """Select some queries of some heads, with all keys of these heads."""
        q, rows, columns = (x[heads, queries] for x in (self.q, self.rows, self.columns))
        return _Inputs(q, self.k[heads], self.v[heads], rows, columns, self.scale)


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """Compute ``softmax(scale q k + rows + columns) v``, `BLOCK_SCORES` scores at a time; differentiable once.

    Args:
        q: queries ``B M N D``, the shape of the result.
        k: keys ``B M h*w D``.
        v: values, the same shape as ``k``.
        rows: bias for each query and row of the keys' grid, ``B M N h``.
        columns: bias for each query and column, ``B M N w``.
        scale: factor of the products.
    """
    flat = [x.flatten(0, 1) for x in (q, k, v, rows, columns)]
    return _BlockedAttention.apply(*flat, scale).unflatten(0, q.shape[:2])


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
        inputs = _Inputs(q, k, v, rows, columns, scale)
        out = inputs.q.new_empty(inputs.q.shape)
        scores = _Scores(inputs)
        for heads, queries in _blocks(inputs):
            block = inputs.block(heads, queries)
            torch.bmm(scores.weights(block), block.v, out=out[heads, queries])
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, rows, columns, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, rows, columns, out = ctx.saved_tensors
        inputs = _Inputs(q, k, v, rows, columns, ctx.scale)
        scores = _Scores(inputs)
        grad_q, grad_rows, grad_columns = (x.new_empty(x.shape) for x in (inputs.q, inputs.rows, inputs.columns))
        grad_k, grad_v = (x.new_zeros(x.shape) for x in (inputs.k, inputs.v))
        # softmax's gradient subtracts the weighted mean over the keys, which follows from the output
        mean = (grad * out).sum(-1, keepdim=True)
        for heads, queries in _blocks(inputs):
            block, grad_out = inputs.block(heads, queries), grad[heads, queries]
            weights = scores.weights(block)
            grad_v[heads].baddbmm_(weights.mT, grad_out)
            grad_scores = scores.gradient(block, grad_out, mean[heads, queries])
            grad_k[heads].baddbmm_(grad_scores.mT, block.q, alpha=inputs.scale)
            grad_q[heads, queries] = (grad_scores @ block.k).mul_(inputs.scale)
            on_grid = grad_scores.unflatten(-1, (block.rows.shape[-1], block.columns.shape[-1]))
            grad_rows[heads, queries] = on_grid.sum(-1)
            grad_columns[heads, queries] = on_grid.sum(-2)
        return grad_q, grad_k, grad_v, grad_rows, grad_columns, None


class _Scores:
    """Two buffers for the scores and weights of all blocks in turn; fresh memory costs more than the arithmetic."""

    def __init__(self, inputs: _Inputs) -> None:
        keys = inputs.k.shape[1]
        every = inputs.q.shape[0] * inputs.q.shape[1] * keys
        self.room = inputs.q.new_empty(2, min(max(BLOCK_SCORES, keys), every))

    def weights(self, block: _Inputs) -> Tensor:
        """Compute the attention weights of a block, ``P N n``; valid until the next call."""
        scores, weights = self._views(block)
        on_grid = scores.unflatten(-1, (block.rows.shape[-1], block.columns.shape[-1]))
        torch.add(block.rows[..., :, None], block.columns[..., None, :], out=on_grid)
        scores.baddbmm_(block.q, block.k.mT, alpha=block.scale)
        return torch.softmax(scores, -1, out=weights)

    def gradient(self, block: _Inputs, grad_out: Tensor, mean: Tensor) -> Tensor:
        """Compute the gradient of the scores of the block last passed to `weights`, in place of the scores."""
        scores, weights = self._views(block)
        return torch.baddbmm(mean, grad_out, block.v.mT, beta=-1, out=scores).mul_(weights)

    def _views(self, block: _Inputs) -> tuple[Tensor, Tensor]:
        shape = (*block.q.shape[:2], block.k.shape[1])
        scores, weights = self.room[:, : math.prod(shape)].view(2, *shape).unbind(0)
        return scores, weights


def _blocks(inputs: _Inputs) -> Iterator[tuple[slice, slice]]:
    """Yield heads and queries of each block: several whole heads, or some queries of one head."""
    (heads, queries), keys = inputs.q.shape[:2], inputs.k.shape[1]
    some_heads = max(1, BLOCK_SCORES // max(1, queries * keys))
    some_queries = max(1, min(queries, BLOCK_SCORES // max(1, keys)))
    for head in range(0, heads, some_heads):
        for query in range(0, queries, some_queries):
            yield slice(head, head + some_heads), slice(query, query + some_queries)
