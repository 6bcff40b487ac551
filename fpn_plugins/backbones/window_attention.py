"""Attention inside windows with a learned bias per relative position, and the masks of shifted windows.

Swin Transformer (arXiv:2103.14030, section 3.2). Shifted windows are cut from a cyclically shifted map, so that the
last row and the last column of windows hold tokens from opposite edges, which a mask keeps apart. All windows of one
kind have the same mask: there are four kinds, whatever the size of the map.

Letters in the shapes: ``n`` windows, ``M`` heads, ``N`` tokens of a window, ``D`` channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..ops.tracing import traced
from ..weights.resize import relative_bias_table

# what separates two tokens of a window, as in the official implementation: exp(-100) adds nothing to a sum
APART = -100.0
# scores held at once: what fits into a processor core's cache; elsewhere launches cost more than memory
SCORES_AT_ONCE = {"cpu": 2**18}
SCORES_AT_ONCE_ELSEWHERE = 2**26


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows of ``window_size x window_size`` tokens.

    Args:
        dim: channels of a token.
        num_heads: heads; divides ``dim``.
        window_size: side of a window in tokens.
        shift: how far the map was shifted before it was cut, in tokens; 0 needs no masks.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; ``None`` is ``(dim / num_heads) ** -0.5``.

    State dict (the official names): ``qkv.*``, ``proj.*``, ``relative_position_bias_table`` (``(2 window_size - 1)**2
    M``); on load a table of another window is resized, as the official fine-tuning does it.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    relative_position_index: Tensor
    masks: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        shift: int = 0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the {dim} channels of a token")
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        self.register_buffer("masks", shift_masks(window_size, shift) if shift else None, persistent=False)
        self._register_load_state_dict_pre_hook(_fit_table, with_module=True)

    def forward(self, qkv: Tensor, kinds: Tensor | None = None) -> Tensor:
        """Attend inside each window.

        Args:
            qkv: result of ``self.qkv``, ``n N 3*M*D``.
            kinds: of a shifted map, the kind of each window, see `WindowLayout`.

        Returns:
            What ``self.proj`` maps to tokens, ``n N M*D``.
        """
        windows, tokens, channels = qkv.shape
        heads = qkv.view(windows, tokens, 3, self.num_heads, channels // 3 // self.num_heads)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # M N N
        biases = bias[None] if kinds is None else bias + self.masks[:, None]  # kinds M N N
        biases = biases.to(qkv.dtype)
        out = attend if traced() else _Attend.apply
        return out(heads, biases, kinds, self.scale).flatten(2)


def attend(heads: Tensor, biases: Tensor, kinds: Tensor | None, scale: float) -> Tensor:
    """Attention in windows, in plain PyTorch; what compilers and exporters see, and what the rest is tested against.

    Args:
        heads: queries, keys and values, ``n N 3 M D``.
        biases: what is added to the scores of each kind of window, ``kinds M N N``.
        kinds: kind of each window; ``None`` where there is only one.
        scale: factor of the scores.

    Returns:
        ``n N M D``.
    """
    q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # n M N D
    if kinds is not None:
        biases = biases[kinds]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=biases, scale=scale).transpose(1, 2)
    # what is exported may run on another kernel, whose result lies in another order
    return out.clone(memory_format=torch.contiguous_format) if traced() else out


class _Attend(torch.autograd.Function):
    """`attend` that never holds the scores of all windows: a few windows at a time, and again in the backward pass.

    PyTorch's fused kernels have no gradient for the bias on the CPU; without them it keeps every score for the backward
    pass, more than the tokens themselves.
    """

    @staticmethod
    def forward(ctx: Any, heads: Tensor, biases: Tensor, kinds: Tensor | None, scale: float) -> Tensor:
        ctx.save_for_backward(heads, biases, kinds)
        ctx.scale = scale
        windows, tokens, _, num_heads, channels = heads.shape
        if kinds is None:
            return attend(heads, biases, None, scale)
        out = heads.new_empty(windows, tokens, num_heads, channels)
        for few, bias in _portions(heads, biases, kinds):
            out[few] = attend(heads[few], bias, None, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        heads, biases, kinds = ctx.saved_tensors
        grad_heads = torch.empty_like(heads)
        grad_biases = torch.zeros_like(biases, dtype=torch.promote_types(biases.dtype, torch.float32))
        with torch.autocast(heads.device.type, enabled=False):
            for few, bias in _portions(heads, biases, kinds):
                q, k, v = heads[few].permute(2, 0, 3, 1, 4).unbind(0)
                out = grad[few].transpose(1, 2)
                weights = torch.add(bias, q @ k.mT, alpha=ctx.scale).softmax(-1)
                grad_scores = torch.ops.aten._softmax_backward_data(out @ v.mT, weights, -1, weights.dtype)
                grad_heads[few, :, 2] = (weights.mT @ out).transpose(1, 2)
                grad_heads[few, :, 1] = (grad_scores.mT @ q).mul_(ctx.scale).transpose(1, 2)
                grad_heads[few, :, 0] = (grad_scores @ k).mul_(ctx.scale).transpose(1, 2)
                # a mask is constant: all kinds have the gradient of the bias that they share
                grad_biases[0] += grad_scores.sum(0, dtype=grad_biases.dtype)
        return grad_heads, grad_biases.to(biases.dtype), None, None


def _portions(heads: Tensor, biases: Tensor, kinds: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Slices of windows that are worked on at once, with the biases of each (``1`` or as many ``M N N``)."""
    windows, tokens, _, num_heads, _ = heads.shape
    limit = SCORES_AT_ONCE.get(heads.device.type, SCORES_AT_ONCE_ELSEWHERE)
    step = max(1, limit // (num_heads * tokens * tokens))
    for start in range(0, windows, step):
        few = slice(start, start + step)
        yield few, biases if kinds is None else biases[kinds[few]]


def relative_position_index(window_size: int) -> Tensor:
    """Row of the bias table for each query and key of a window, ``N N``: by vertical, then horizontal distance."""
    row, column = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij")
    distances = [(axis[:, None] - axis[None]) + window_size - 1 for axis in (row.flatten(), column.flatten())]
    return distances[0] * (2 * window_size - 1) + distances[1]


def shift_masks(window_size: int, shift: int) -> Tensor:
    """What is added to the scores of each kind of window of a shifted map, ``4 N N``: 0, or `APART`.

    The kinds are those of `WindowLayout`: inside, in the last column, in the last row, in the corner.
    """
    moved = torch.arange(window_size) >= window_size - shift  # tokens that come from the opposite edge
    nothing = torch.zeros_like(moved)
    masks = []
    for rows, columns in ((nothing, nothing), (nothing, moved), (moved, nothing), (moved, moved)):
        origin = (2 * rows[:, None] + columns[None].int()).flatten()
        masks.append(torch.where(origin[:, None] == origin[None], 0.0, APART))
    return torch.stack(masks)


def _fit_table(module: WindowAttention, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
    key = f"{prefix}relative_position_bias_table"
    if key in state_dict and state_dict[key].dim() == 2:
        state_dict[key] = relative_bias_table(state_dict[key], module.window_size)
