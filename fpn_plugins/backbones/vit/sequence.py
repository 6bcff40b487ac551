"""Attention of foundation models' Vision Transformers: tokens in a sequence, the prefix before the cells of the map.

Prefix tokens are the class token and the registers (arXiv:2309.16588), which belong to no place. They are not rotated,
and in windows, they are treated in one of the ways of `PREFIX_IN_WINDOWS`.

Letters in the shapes: ``B`` batch, ``M`` heads, ``P`` prefix tokens, ``H W`` grid, ``N = P + H W`` tokens, ``D``
channels of a head, ``n`` windows of all images, ``s`` side of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import divisor, one_of
from ...ops.attention import attend
from ...ops.tracing import traced
from ...ops.windows import from_windows, to_windows, windows_along
from .design import ALL_BIASED, KEYS_UNBIASED, ViTDesign
from .rotary import Rotary, rotate

# - "global": one set of prefix tokens; they attend to everything, and every window attends to them (Longformer,
#   arXiv:2004.05150, for images arXiv:2103.15358)
# - "copy": a set for each window, seen by its window; global blocks see all sets (RF-DETR, arXiv:2511.09554)
# - "drop": no prefix tokens at all (the detectors of EVA-02, arXiv:2303.11331)
PREFIX_IN_WINDOWS = ("global", "copy", "drop")
# coordinates of rotary positions in windows: those of the map, or of each window as a map of its own (EVA-02)
WINDOW_POSITIONS = ("map", "window")


class TokenGrid(NamedTuple):
    """Places of the tokens of a sequence.

    Attributes:
        height: rows of the map.
        width: columns of the map.
        num_prefix: prefix tokens of an image, those of all windows together if each has its own.
        own_prefix: whether each window has its own prefix tokens.
        turns: cosine and sine of the angles of the cells for global blocks, ``H*W 1 D/2`` each; or ``None``.
        window_turns: likewise, for blocks with windows.
    """

    height: int
    width: int
    num_prefix: int
    own_prefix: bool
    turns: tuple[Tensor, Tensor] | None
    window_turns: tuple[Tensor, Tensor] | None

    def cells(self, tokens: Tensor) -> Tensor:
        """Return the map of a sequence ``B N C``, ``B H W C``."""
        return tokens[:, self.num_prefix :].unflatten(1, (self.height, self.width))


def split_cells(tokens: Tensor, places: Sequence[TokenGrid]) -> tuple[Tensor | None, Tensor]:
    """Split the tokens of a ViT (see `ViT.embed`) into prefix tokens, if it has a sequence, and cells ``B H*W C``."""
    if not places:
        return None, tokens.flatten(1, 2)
    count = places[0].num_prefix
    return tokens[:, :count], tokens[:, count:]


class SequenceLayout(NamedTuple):
    """How a network makes the sequence of its tokens from a map of any size.

    Attributes:
        rotary: rotary positions, or ``None``.
        channels: channels of a head.
        window_size: side of the windows in tokens of the blocks that have some; 0 if all are global.
        own_prefix: whether each window has its own prefix tokens.
        own_positions: whether each window has the coordinates of a map of its own.
        dropped: names of the prefix tokens and the norm that the network is published with and that are left out.
    """

    rotary: Rotary | None
    channels: int
    window_size: int
    own_prefix: bool
    own_positions: bool
    dropped: tuple[str, ...]

    def join(self, prefix: Tensor | None, grid: Tensor) -> tuple[Tensor, TokenGrid]:
        """Join prefix tokens ``1 P C`` and cells ``B H W C`` to a sequence ``B N C``."""
        batch, height, width, _ = grid.shape
        parts = [grid.flatten(1, 2)]
        num_prefix = 0
        if prefix is not None:
            if self.own_prefix:
                per_image = windows_along(height, self.window_size) * windows_along(width, self.window_size)
                prefix = prefix.repeat(1, per_image, 1)
            parts.insert(0, prefix.expand(batch, -1, -1))
            num_prefix = prefix.shape[1]
        turns = window_turns = self._turns(height, width, 0, grid.device)
        if self.own_positions and self.window_size:
            window_turns = self._turns(height, width, self.window_size, grid.device)
        return torch.cat(parts, 1), TokenGrid(height, width, num_prefix, self.own_prefix, turns, window_turns)

    def _turns(self, height: int, width: int, window_size: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        if self.rotary is None:
            return None
        angles = self.rotary.angles(height, width, self.channels, window_size, device)[:, None]
        return angles.cos(), angles.sin()


class SequenceAttention(nn.Module):
    """Multi-head self-attention over all tokens of a sequence, or within windows of the map.

    In windows, cells outside the map are left out of the attention.

    Args:
        design: channels, heads, biases, norms and rotary positions.
        window_size: side of the windows in tokens; 0 attends to all tokens.

    State dict: ``qkv.*``, or ``qkv.weight`` with ``q_bias`` and ``v_bias``; ``q_norm.*``, ``k_norm.*``; ``norm.*``;
    ``proj.*``.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    def __init__(self, design: ViTDesign, window_size: int = 0) -> None:
        super().__init__()
        dim, eps = design.embed_dim, design.norm_eps
        self.num_heads = divisor("num_heads", design.num_heads, dim, "channels of a token")
        self.window_size = window_size
        self.halves = design.rotary is not None and design.rotary.halves
        self.qkv = nn.Linear(dim, 3 * dim, bias=design.qkv_bias == ALL_BIASED)
        self.q_bias: nn.Parameter | None = None
        self.v_bias: nn.Parameter | None = None
        if design.qkv_bias == KEYS_UNBIASED:
            self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(dim)) for _ in range(2))
        channels = dim // self.num_heads
        self.q_norm, self.k_norm = (nn.LayerNorm(channels, eps) if design.qk_norm else nn.Identity() for _ in range(2))
        self.norm = nn.LayerNorm(dim, eps) if design.attention_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """Map tokens ``B N C`` to tokens of the same shape."""
        turns = grid.window_turns if self.window_size else grid.turns
        q, k, v = self._project(x)  # B N M D
        if turns is not None:
            q, k = (_turn_cells(t, turns, grid.num_prefix, self.halves) for t in (q, k))
        q, k = q.to(v.dtype), k.to(v.dtype)
        out = _attend_in_windows(q, k, v, grid, self.window_size) if self.window_size else _attend(q, k, v)
        return self.proj(self.norm(out.flatten(2)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
            qkv = qkv + bias.to(qkv.dtype)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        return self.q_norm(q), self.k_norm(k), v


def choose_layout(
    design: ViTDesign, window_size: int, prefix_tokens_in_windows: str, window_positions: str, final_norm: bool
) -> tuple[ViTDesign, SequenceLayout | None]:
    """Return the design with the prefix tokens and norm that are kept, and the layout of its sequence, if it is one.

    The last three arguments are those of `ViT`; ``window_size`` is 0 if all blocks are global.

    Raises:
        ValueError: an unknown choice, or another than the default for a network without such a sequence.
    """
    choice = one_of("prefix_tokens_in_windows", prefix_tokens_in_windows, PREFIX_IN_WINDOWS)
    one_of("window_positions", window_positions, WINDOW_POSITIONS)
    if not design.sequence:
        chosen = {"prefix_tokens_in_windows": choice, "window_positions": window_positions, "final_norm": final_norm}
        _refuse_without_name(chosen)
        return design, None
    dropped: tuple[str, ...] = ()
    if window_size and choice == "drop":
        tokens = {"cls_token": design.class_token, "reg_token": design.num_registers}
        dropped = tuple(key for key, present in tokens.items() if present)
        design = design._replace(class_token=False, num_registers=0)
    if design.final_norm and not final_norm:
        dropped += ("norm.<*>",)
        design = design._replace(final_norm=False)
    channels = design.embed_dim // design.num_heads
    own_prefix, own_positions = choice == "copy" and window_size > 0, window_positions == "window"
    return design, SequenceLayout(design.rotary, channels, window_size, own_prefix, own_positions, dropped)


def _refuse_without_name(chosen: Mapping[str, object]) -> None:
    """Raise ``ValueError`` for the first choice that differs from its default, since ViTDet has no such part."""
    defaults = {"prefix_tokens_in_windows": PREFIX_IN_WINDOWS[0], "window_positions": WINDOW_POSITIONS[0]}
    for argument, value in chosen.items():
        if value != defaults.get(argument, True):
            raise ValueError(
                f"{argument}={value!r} is for a network with a name; without name=, there are no prefix tokens, rotary "
                "positions or final norm; leave it out"
            )


def _turn_cells(x: Tensor, turns: tuple[Tensor, Tensor], num_prefix: int, halves: bool) -> Tensor:
    """Rotate the cells of ``B N M D``, not the prefix tokens."""
    turned = rotate(x[:, num_prefix:], *turns, halves)
    return torch.cat([x[:, :num_prefix], turned], 1) if num_prefix else turned


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply `attend` to queries ``B N M D``, keys and values."""
    return attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bias).transpose(1, 2)


def _attend_in_windows(q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid, size: int) -> Tensor:
    """Attend from each window's cells to the cells and prefix tokens that it sees, ``B N M D`` each."""
    prefix, own = grid.num_prefix, grid.own_prefix
    hidden = _outside(grid, size, q)
    seen_k, seen_v = (_windows(x, grid, size, with_prefix=True) for x in (k, v))
    out = _attend(_windows(q, grid, size, with_prefix=own), seen_k, seen_v, hidden)  # n P+s*s M D, or n s*s M D
    cells = out[:, out.shape[1] - size * size :].flatten(2).unflatten(1, (size, size))
    out_cells = from_windows(cells, grid.height, grid.width).flatten(1, 2).unflatten(2, q.shape[2:])
    if prefix == 0:
        return out_cells
    if own:
        out_prefix = out[:, : out.shape[1] - size * size].reshape(q.shape[0], prefix, *q.shape[2:])
    else:
        out_prefix = _attend(q[:, :prefix], k, v)
    return torch.cat([out_prefix, out_cells], 1)


def _windows(x: Tensor, grid: TokenGrid, size: int, with_prefix: bool) -> Tensor:
    """Cut the cells of ``B N M D`` into windows, each after the prefix tokens that it sees: ``n P+s*s M D``."""
    cells = x[:, grid.num_prefix :].flatten(2).unflatten(1, (grid.height, grid.width))
    windows = to_windows(cells, size).flatten(1, 2).unflatten(2, x.shape[2:])
    if not with_prefix or grid.num_prefix == 0:
        return windows
    per_image = windows_along(grid.height, size) * windows_along(grid.width, size)
    prefix = x[:, : grid.num_prefix]
    if grid.own_prefix:
        own = prefix.unflatten(1, (per_image, grid.num_prefix // per_image))
    else:
        own = prefix[:, None].expand(-1, per_image, -1, -1, -1)
    return torch.cat([own.flatten(0, 1), windows], 1)


def _outside(grid: TokenGrid, size: int, like: Tensor) -> Tensor | None:
    """Build the bias that hides cells outside the map, ``n 1 1 P+s*s``; ``None`` if there are none."""
    if not traced() and grid.height % size == 0 and grid.width % size == 0:
        return None
    inside = to_windows(like.new_ones(1, grid.height, grid.width, 1), size).flatten(1)  # windows of one image, s*s
    bias = torch.zeros_like(inside).masked_fill(inside == 0, float("-inf"))
    seen = grid.num_prefix // inside.shape[0] if grid.own_prefix else grid.num_prefix
    return F.pad(bias, (seen, 0))[:, None, None].repeat(like.shape[0], 1, 1, 1)
