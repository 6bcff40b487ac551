"""Transformer encoder layers on a map, whose positions are computed for any size.

Attention Is All You Need (Vaswani et al., arXiv:1706.03762, section 3.1), with DETR's positions (arXiv:2005.12872):
added to queries and keys of each layer, not to values.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from ..checks import divisor, integer, positive_int, probability
from ..layers import ActFactory, make_act
from ..ops.memory_format import in_format_of


class EncoderLayer(nn.Module):
    """Self-attention and an MLP on tokens, each added to its input and followed by a norm.

    Args:
        channels: channels of the tokens.
        num_heads: number of attention heads; divides ``channels``.
        mlp_channels: channels between the two layers of the MLP.
        dropout: rate of dropout, of attention weights included.
        act: activation of the MLP.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        mlp_channels: int = 1024,
        dropout: float = 0.0,
        act: str | ActFactory | None = "gelu",
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, mlp_channels)
        self.act = make_act(act) or nn.Identity()
        self.linear2 = nn.Linear(mlp_channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map tokens ``B N C``, with positions ``N C``, to ``B N C``."""
        placed = x + positions
        attended, _ = self.attention(placed, placed, x, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        hidden = self.linear2(self.dropout(self.act(self.linear1(x))))
        return self.norm2(x + self.dropout(hidden))


class MapEncoder(nn.ModuleList):
    """Encoder layers on the cells of a map.

    Args:
        channels: channels of the map; divisible by 4 and by ``num_heads``.
        num_layers: number of `EncoderLayer`.
        temperature: base of the wavelengths of the positions, see `sine_positions`.
        num_heads, mlp_channels, dropout, act: see `EncoderLayer`.

    Raises:
        ValueError: channels that 4 or ``num_heads`` does not divide.
    """

    def __init__(
        self,
        channels: int,
        num_layers: int = 1,
        num_heads: int = 8,
        mlp_channels: int = 1024,
        dropout: float = 0.0,
        act: str | ActFactory | None = "gelu",
        temperature: float = 10000.0,
    ) -> None:
        divisor("num_heads", num_heads, channels, "channels")
        if channels % 4:
            raise ValueError(f"out_channels={channels} must be a multiple of 4: sine and cosine of row and column")
        positive_int("mlp_channels", mlp_channels)
        probability("dropout", dropout)
        layers = (
            EncoderLayer(channels, num_heads, mlp_channels, dropout, act)
            for _ in range(integer("num_layers", num_layers, 0))
        )
        super().__init__(layers)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``, in the memory format of the input."""
        height, width = x.shape[-2], x.shape[-1]
        positions = sine_positions(height, width, x.shape[1], self.temperature, x)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self:
            tokens = layer(tokens, positions)
        return in_format_of(tokens.transpose(1, 2).unflatten(2, (height, width)), x)


def sine_positions(height: int, width: int, channels: int, temperature: float, like: Tensor) -> Tensor:
    """Compute the positions of a map's cells: sine and cosine of the row, then those of the column.

    Each has ``channels / 4`` frequencies, ``temperature ** (-k / (channels / 4))`` radians per cell.

    Args:
        height: rows of the map.
        width: columns of the map.
        channels: number of values per cell.
        temperature: base of the wavelengths.
        like: tensor whose dtype and device the result has.

    Returns:
        ``height*width channels``, row by row.
    """
    precise = torch.promote_types(like.dtype, torch.float32)
    quarter = channels // 4
    frequencies = temperature ** -(torch.arange(quarter, dtype=precise, device=like.device) / quarter)
    rows, columns = (
        torch.arange(side, dtype=precise, device=like.device)[:, None] * frequencies for side in (height, width)
    )
    rows = rows[:, None].expand(height, width, quarter)
    columns = columns[None].expand(height, width, quarter)
    waves = chain.from_iterable((angle.sin(), angle.cos()) for angle in (rows, columns))
    return torch.cat(tuple(waves), dim=-1).flatten(0, 1).to(like.dtype)
