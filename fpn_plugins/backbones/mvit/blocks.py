"""Blocks of MViTv2: attention on pooled queries, keys and values, in windows or over the whole map.

Source: MViTv2 (arXiv:2112.01526), sections 4.1 (decomposed relative positions, residual pooling) and 4.2 (hybrid window
attention); outputs match Detectron2's ``modeling/backbone/mvit.py``. Letters in the shapes: ``M`` heads, ``D`` channels
of a head; ``h w`` is the grid of keys and values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...ops.attention import AxialBias, attend_grids, attend_windows
from ...ops.pooling import MaxPool2d
from ..vit.attention import pooled_relative_rows, relative_bias
from ..vit.blocks import DropPath, mlp

MLP_RATIO = 4


class BlockPlan(NamedTuple):
    """Settings that differ from block to block.

    Attributes:
        in_channels: channels of the input.
        out_channels: channels of the output, and of queries, keys and values.
        num_heads: heads of the attention; divides ``out_channels``.
        stride_q: stride of the pooling of queries, and so of the output.
        stride_kv: stride of the pooling of keys and values.
        window_size: side of the attention windows in cells of the input, a multiple of both strides; 0 attends over the
            whole map.
        rel_pos_size: side of the input map, in cells, for the tables of relative positions, which are linearly resized
            for other maps.
    """

    in_channels: int
    out_channels: int
    num_heads: int
    stride_q: int
    stride_kv: int
    window_size: int
    rel_pos_size: int


class MultiScaleAttention(nn.Module):
    """Attention whose queries, keys and values are pooled by convolutions, with the queries added to the result.

    Args:
        plan: channels, heads, strides and windows.
        norm_eps: epsilon of the norms.

    Pooled keys and values are zero-padded to whole windows, and the padding takes part, as in `Attention`.
    """

    def __init__(self, plan: BlockPlan, norm_eps: float) -> None:
        super().__init__()
        self.num_heads = plan.num_heads
        self.finer_keys = plan.stride_kv < plan.stride_q
        # sides of a window in queries and in keys
        self.window: tuple[int, int] | None = None
        if plan.window_size:
            self.window = plan.window_size // plan.stride_q, plan.window_size // plan.stride_kv
        channels = plan.out_channels // plan.num_heads
        self.qkv = nn.Linear(plan.in_channels, 3 * plan.out_channels)
        self.proj = nn.Linear(plan.out_channels, plan.out_channels)
        self.pool_q, self.norm_q = _pooling(channels, plan.stride_q), nn.LayerNorm(channels, norm_eps)
        self.pool_k, self.norm_k = _pooling(channels, plan.stride_kv), nn.LayerNorm(channels, norm_eps)
        self.pool_v, self.norm_v = _pooling(channels, plan.stride_kv), nn.LayerNorm(channels, norm_eps)
        length = 2 * (plan.rel_pos_size // min(plan.stride_q, plan.stride_kv)) - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(length, channels))
        self.rel_pos_w = nn.Parameter(torch.zeros(length, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B H W C_in`` to ``B ceil(H / stride_q) ceil(W / stride_q) C``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # B H W 3 M D
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).contiguous().unbind(0)  # B M H W D
        q = _pool(q, self.pool_q, self.norm_q)
        k = _pool(k, self.pool_k, self.norm_k)
        v = _pool(v, self.pool_v, self.norm_v)
        bias = self._bias(q, k)
        out = attend_windows(q, k, v, bias, *self.window) if self.window else attend_grids(q, k, v, bias)
        out = out + q  # residual pooling
        return self.proj(out.permute(0, 2, 3, 1, 4).flatten(3))

    def _bias(self, q: Tensor, k: Tensor) -> AxialBias:
        """Score the queries against the positions of the keys in their window, or in the whole map."""
        rows = []
        for axis, table in ((2, self.rel_pos_h), (3, self.rel_pos_w)):
            q_size, k_size = self.window or (q.shape[axis], k.shape[axis])
            position = torch.arange(q.shape[axis], device=q.device)
            in_window = position - position // q_size * q_size
            rows.append(pooled_relative_rows(table, q_size, k_size, self.finer_keys, in_window))
        return relative_bias(q, *rows)


def _pool(x: Tensor, pool: nn.Module, norm: nn.Module) -> Tensor:
    """Pool and normalize tokens ``B M H W D`` to ``B M h w D``, with the same filters for every head."""
    pooled = pool(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    # under autocast, norms return single precision but attention needs half
    return norm(pooled).to(pooled.dtype).unflatten(0, x.shape[:2])


def _pooling(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


class MultiScaleBlock(nn.Module):
    """Attention and MLP, each with a norm and a shortcut; if the channels change, the shortcut is projected.

    Args:
        plan: channels, heads, strides and windows.
        drop_path: probability of dropping a residual branch in training.
        norm_eps: epsilon of the norms.

    State dict (Detectron2's names): ``norm1``, ``attn.{qkv,proj}``, ``attn.{pool,norm}_{q,k,v}``,
    ``attn.rel_pos_{h,w}``, ``norm2``, ``mlp.{fc1,fc2}``, ``proj`` if the channels change.
    """

    def __init__(self, plan: BlockPlan, drop_path: float, norm_eps: float) -> None:
        super().__init__()
        stride = plan.stride_q
        self.norm1 = nn.LayerNorm(plan.in_channels, norm_eps)
        self.attn = MultiScaleAttention(plan, norm_eps)
        self.norm2 = nn.LayerNorm(plan.out_channels, norm_eps)
        self.mlp = mlp(plan.out_channels, MLP_RATIO * plan.out_channels)
        self.drop_path = DropPath(drop_path)
        changes = plan.in_channels != plan.out_channels
        self.proj = nn.Linear(plan.in_channels, plan.out_channels) if changes else None
        self.pool_skip = MaxPool2d(stride + 1, stride, stride // 2) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B H W C_in`` to ``B ceil(H / stride_q) ceil(W / stride_q) C_out``."""
        normed = self.norm1(x)
        shortcut = x if self.proj is None else self.proj(normed)
        if self.pool_skip is not None:
            shortcut = self.pool_skip(shortcut.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = shortcut + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))
