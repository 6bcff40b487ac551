"""Attention inside windows with a learned bias per relative position: ``softmax(scale q k + bias) v``.

Swin Transformer (arXiv:2103.14030, section 3.2, eq. 4).

Letters in the shapes: ``n`` windows, ``M`` heads, ``N`` tokens of a window, ``D`` channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import divisor
from ...ops.attention import attend
from ...weights.resize import relative_bias_table
from .window_layout import WindowLayout


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows of ``window_size x window_size`` tokens.

    Args:
        dim: channels of a token.
        num_heads: number of heads; divides ``dim``.
        window_size: side of a window in tokens.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the scores; ``None`` is ``(dim / num_heads) ** -0.5``.

    State dict (the official names): ``qkv.*``, ``proj.*``, ``relative_position_bias_table`` (``(2 window_size - 1)**2
    M``); a loaded table of another window is resized as in the official fine-tuning.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    relative_position_index: Tensor

    def __init__(
        self, dim: int, num_heads: int, window_size: int, qkv_bias: bool = True, qk_scale: float | None = None
    ) -> None:
        super().__init__()
        self.num_heads = divisor("num_heads", num_heads, dim, "channels of a token")
        self.window_size = window_size
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        self._register_load_state_dict_pre_hook(_fit_table, with_module=True)

    def forward(self, x: Tensor, windows: WindowLayout) -> Tensor:
        """Attend inside each window.

        Padding has the query, key and value of a zero token, as in all detection code. All windows share one padding
        token, so that the linear layers run on the tokens of the maps only.

        Args:
            x: tokens ``B H W C``.
            windows: layout of these maps in windows.

        Returns:
            ``B H W C``.
        """
        tokens = F.pad(x.flatten(0, 2), (0, 0, 1, 0))  # 1+B*H*W C
        qkv = self.qkv(tokens).index_select(0, windows.tokens)
        qkv = qkv.view(-1, self.window_size**2, 3, self.num_heads, x.shape[-1] // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # n M N D
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]  # 1 M N N
        if windows.masks is not None:
            bias = bias + windows.masks[:, None]
        out = attend(q, k, v, bias.to(q.dtype), self.scale).transpose(1, 2).flatten(2).flatten(0, 1)  # n*N C
        return self.proj(out.index_select(0, windows.places)).view(x.shape)


def reference_window_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Compute attention in windows by its definition, which `attend` is tested against.

    Args:
        q: queries ``n M N D``.
        k: keys, the same shape.
        v: values, the same shape.
        bias: added to the scores, ``1 M N N``, or with masks ``n M N N``.
        scale: factor of the products.
    """
    return (scale * (q @ k.mT) + bias).softmax(-1) @ v


def relative_position_index(window_size: int) -> Tensor:
    """Index the rows of the bias table for each query and key, ``N N``: by vertical, then horizontal distance."""
    row, column = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij")
    distances = [(axis[:, None] - axis[None]) + window_size - 1 for axis in (row.flatten(), column.flatten())]
    return distances[0] * (2 * window_size - 1) + distances[1]


def _fit_table(module: WindowAttention, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
    key = f"{prefix}relative_position_bias_table"
    if key in state_dict and state_dict[key].dim() == 2:
        state_dict[key] = relative_bias_table(state_dict[key], module.window_size)
