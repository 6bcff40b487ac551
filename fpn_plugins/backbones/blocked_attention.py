"""Attention with decomposed relative positions on a CPU: block by block, with the scores of one block in memory.

The letters are those of `attention`. FlashAttention (arXiv:2205.14135) does the same on a GPU's own memory, and
computes the weights again in the backward pass, as here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# scores in a buffer: fewer make the matrix products slower, more do not fit into a cache (2^19 .. 2^23 were measured)
BLOCK_SCORES = 1 << 21


def blocked_attention(qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """`attend` for some heads and some rows of queries after the other, `BLOCK_SCORES` scores at a time.

    The backward pass computes each block's scores again. Not differentiable twice.
    """
    return _BlockedAttention.apply(qkv, rows_h, rows_w)


def position_scores(q: Tensor, rows_h: Tensor, rows_w: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of queries ``... N D`` against the rows of their own position: ``... N H`` and ``... N W``."""
    grid = q.unflatten(-2, (rows_h.shape[0], rows_w.shape[0]))
    return (
        torch.einsum("...yxd,yvd->...yxv", grid, rows_h).flatten(-3, -2),
        torch.einsum("...yxd,xud->...yxu", grid, rows_w).flatten(-3, -2),
    )


class _BlockedAttention(torch.autograd.Function):
    """`blocked_attention`: an image's tokens are cut by heads first, then by rows of queries.

    The same two buffers hold every block, because memory fresh from the system costs more than what is computed in it.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
        out = torch.empty_like(qkv[:, :, 0], memory_format=torch.contiguous_format)
        buffers = _Buffers(qkv)
        for image, heads in _images_and_heads(qkv):
            q, k, v = qkv[image, :, :, heads].permute(1, 2, 0, 3).unbind(0)  # M N D
            bias = position_scores(q, rows_h, rows_w)
            for rows in _query_rows(q):
                out[image, rows, heads] = (buffers.weights(q[:, rows], k, bias, rows) @ v).transpose(0, 1)
        ctx.save_for_backward(qkv, rows_h, rows_w, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv, rows_h, rows_w, out = ctx.saved_tensors
        grad_qkv = torch.empty_like(qkv)
        grad_h, grad_w = torch.zeros_like(rows_h), torch.zeros_like(rows_w)
        size = (rows_h.shape[0], rows_w.shape[0])
        scale = qkv.shape[-1] ** -0.5
        buffers = _Buffers(qkv)
        for image, heads in _images_and_heads(qkv):
            q, k, v = qkv[image, :, :, heads].permute(1, 2, 0, 3).unbind(0)  # M N D
            grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            bias = position_scores(q, rows_h, rows_w)
            grad_bias = torch.empty_like(bias[0]), torch.empty_like(bias[1])
            grad = grad_out[image, :, heads].transpose(0, 1)
            # the softmax's gradient subtracts each query's mean, which is that of its output
            mean = (grad * out[image, :, heads].transpose(0, 1)).sum(-1, keepdim=True)
            for rows in _query_rows(q):
                weights = buffers.weights(q[:, rows], k, bias, rows)
                grad_v.baddbmm_(weights.transpose(1, 2), grad[:, rows])
                grad_scores = buffers.grad_scores(grad[:, rows], v, mean[:, rows])
                grad_q[:, rows] = grad_scores @ k
                grad_k.baddbmm_(grad_scores.transpose(1, 2), q[:, rows])
                on_grid = grad_scores.unflatten(-1, size)
                grad_bias[0][:, rows] = on_grid.sum(-1)
                grad_bias[1][:, rows] = on_grid.sum(-2)
            grad_q.mul_(scale)
            grid, bias_h, bias_w = (t.unflatten(1, size) for t in (q, *grad_bias))
            grad_q += torch.einsum("myxv,yvd->myxd", bias_h, rows_h).flatten(1, 2)
            grad_q += torch.einsum("myxu,xud->myxd", bias_w, rows_w).flatten(1, 2)
            grad_h += torch.einsum("myxv,myxd->yvd", bias_h, grid)
            grad_w += torch.einsum("myxu,myxd->xud", bias_w, grid)
            grads = torch.stack((grad_q, grad_k.mul_(scale), grad_v))
            grad_qkv[image, :, :, heads] = grads.permute(2, 0, 1, 3)
        return grad_qkv, grad_h, grad_w


class _Buffers:
    """Room for the scores and for the weights of one block; each call's result lasts until the next."""

    def __init__(self, qkv: Tensor) -> None:
        tokens, heads = qkv.shape[1], qkv.shape[3]
        self.room = qkv.new_empty(2, min(max(BLOCK_SCORES, tokens), heads * tokens**2))

    def weights(self, q: Tensor, k: Tensor, bias: tuple[Tensor, Tensor], rows: slice) -> Tensor:
        """Attention of the queries ``M n D`` in ``rows`` to all keys, ``M n N``."""
        scores, weights = self._views(q, k)
        torch.add(bias[0][:, rows, :, None], bias[1][:, rows, None, :], out=scores.unflatten(-1, _grid(bias)))
        scores.baddbmm_(q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        return torch.softmax(scores, -1, out=weights)

    def grad_scores(self, grad: Tensor, v: Tensor, mean: Tensor) -> Tensor:
        """Gradient of the scores of the last block of weights, in the scores' place."""
        scores, weights = self._views(grad, v)
        return torch.baddbmm(mean, grad, v.transpose(1, 2), beta=-1, out=scores).mul_(weights)

    def _views(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*queries.shape[:2], keys.shape[1])
        scores, weights = self.room[:, : math.prod(shape)].view(2, *shape).unbind(0)
        return scores, weights


def _grid(bias: tuple[Tensor, Tensor]) -> tuple[int, int]:
    return bias[0].shape[-1], bias[1].shape[-1]


def _images_and_heads(qkv: Tensor) -> Iterator[tuple[int, slice]]:
    """As many heads at a time as all of their scores allow, at least one."""
    tokens, heads = qkv.shape[1], qkv.shape[3]
    for image in range(qkv.shape[0]):
        for some in _blocks(heads, max(1, BLOCK_SCORES // tokens**2)):
            yield image, some


def _query_rows(q: Tensor) -> Iterator[slice]:
    """As many queries at a time as their scores allow, at least one."""
    heads, tokens = q.shape[:2]
    return _blocks(tokens, max(1, BLOCK_SCORES // (heads * tokens)))


def _blocks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
