"""Attention inside windows with a learned bias per relative position: ``softmax(scale q k + bias) v``.

Swin Transformer (arXiv:2103.14030, section 3.2, eq. 4). Maps are padded to whole windows, shifted cyclically and cut;
the last row and column of shifted windows then contain tokens from opposite edges, which a mask separates. Index tables
move tokens into windows and back: arithmetic on positions can be traced for any size, unlike padding and rolling.

Letters in the shapes: ``T = B H W`` tokens of all maps, ``n`` windows of all maps, ``M`` heads, ``N`` tokens of a
window, ``D`` channels of a head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import divisor
from ...ops.attention import attend
from ...ops.windows import windows_along
from ...weights.layouts import LoadHook
from ...weights.resize import relative_bias_table

# added to the score of two tokens to separate them, as in the official code: exp(-100) vanishes in a sum
APART = -100.0
TABLE = "relative_position_bias_table"  # parameter that is resized on loading


class WindowLayout(NamedTuple):
    """Assignment of tokens to windows, shared by all blocks of a stage with the same shift.

    Attributes:
        tokens: token at each place of the windows, ``n*N``, counted from 1 in row-major order; 0 is padding.
        places: place of each token, ``T``.
        masks: for shifted maps, the bias of each window's scores, ``n N N``: 0 between tokens that were neighbors
            before the shift, `APART` between others.
    """

    tokens: Tensor
    places: Tensor
    masks: Tensor | None


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows of ``window_size x window_size`` tokens.

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
        self._register_load_state_dict_pre_hook(_FitTable(), with_module=True)

    def forward(self, x: Tensor, windows: WindowLayout) -> Tensor:
        """Attend inside each window.

        Padding has the query, key and value of a zero token, as in all detection code. All windows share one padding
        token, so the linear layers run almost only on the tokens of the maps.

        Args:
            x: tokens ``B H W C``, also the shape of the result.
            windows: layout of these maps in windows.
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


class _FitTable(LoadHook):
    def translate(self, module: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
        table = given.get(TABLE)
        if table is not None and table.dim() == 2:
            given[TABLE] = relative_bias_table(table, module.window_size)
        return given


def window_layout(batch: int, height: int, width: int, size: int, shift: int, device: torch.device) -> WindowLayout:
    """Compute the layout of maps in windows.

    Args:
        batch: number of maps.
        height: rows of a map in tokens.
        width: columns of a map in tokens.
        size: side of a window in tokens.
        shift: tokens by which the padded map is rolled up and to the left before it is cut.
        device: device of the tables.
    """
    rows, columns, area = windows_along(height, size), windows_along(width, size), size * size
    row, down = _positions(height, size, shift, device)
    column, across = _positions(width, size, shift, device)
    vertical = row * (columns * area) + down * size
    horizontal = column * area + across
    image = torch.arange(batch, device=device) * (rows * columns * area)
    places = (image[:, None, None] + vertical[:, None] + horizontal).flatten()
    tokens = torch.zeros(batch * rows * columns * area, dtype=places.dtype, device=device)
    tokens = tokens.scatter(0, places, torch.arange(1, batch * height * width + 1, device=device))
    return WindowLayout(tokens, places, _masks(batch, rows, columns, size, shift, device) if shift else None)


def _positions(side: int, size: int, shift: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute window and place inside it along one axis, of each row or column of a shifted map."""
    length = windows_along(side, size) * size
    x = torch.arange(side, device=device)
    if shift:
        x = x + (length - shift)
        x = torch.where(x >= length, x - length, x)
    window = x // size
    return window, x - window * size  # ONNX has no remainder for a symbolic size


def _masks(batch: int, rows: int, columns: int, size: int, shift: int, device: torch.device) -> Tensor:
    # what the shift brought to the end of an axis comes from its beginning
    wrapped_y = torch.arange(rows * size, device=device) >= rows * size - shift
    wrapped_x = torch.arange(columns * size, device=device) >= columns * size - shift
    origin = 2 * wrapped_y.view(rows, 1, size, 1) + wrapped_x.view(columns, 1, size)  # rows columns size size
    origin = origin.view(rows * columns, size * size)
    return torch.where(origin[:, :, None] == origin[:, None, :], 0.0, APART).repeat(batch, 1, 1)
