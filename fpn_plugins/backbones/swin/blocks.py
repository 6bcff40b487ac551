"""Parts of a Swin Transformer; tokens stay on their grid, ``B H W C``.

Swin Transformer (arXiv:2103.14030, section 3). Names and results match the official code for detection, which first
pads each map to whole windows and then shifts it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checkpointing import run
from ...ops.tracing import traced
from ..vit.blocks import MLP, DropPath
from .window_attention import WindowAttention
from .window_layout import WindowLayout, window_layout


class SwinPatchEmbedding(nn.Module):
    """Tokens of non-overlapping patches; images are zero-padded to whole patches.

    Args:
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
        embed_dim: channels of a token.
        norm_eps: epsilon of the norm over channels; ``None`` omits the norm.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, norm_eps: float | None) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)
        self.norm = None if norm_eps is None else nn.LayerNorm(embed_dim, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``B in_chans H W`` to tokens ``B H/patch_size W/patch_size C``, rounded up."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        x = self.proj(x).permute(0, 2, 3, 1)  # B H W C
        return x if self.norm is None else self.norm(x)


class PatchMerging(nn.Module):
    """Half the resolution, twice the channels: a linear layer on the four tokens of each 2x2 patch, column by column.

    Args:
        dim: channels of a token.
        norm_eps: epsilon of the norm before the reduction; ``None`` omits the norm.
    """

    def __init__(self, dim: int, norm_eps: float | None) -> None:
        super().__init__()
        self.norm = None if norm_eps is None else nn.LayerNorm(4 * dim, norm_eps)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B H W C`` to ``B H/2 W/2 2*C``, rounded up."""
        x = _patches(x)
        return self.reduction(x if self.norm is None else self.norm(x))


def _patches(x: Tensor) -> Tensor:
    """Gather the tokens ``B H W C`` of each patch: ``B H/2 W/2 4*C``, rounded up."""
    batch, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    # a trace must not depend on the size
    if traced() or height % 2 or width % 2:
        x = F.pad(x, (0, 0, 0, 2 * columns - width, 0, 2 * rows - height))
    x = x.reshape(batch, rows, 2, columns, 2, channels)
    return x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # B H/2 W/2 column row C


class SwinBlock(nn.Module):
    """A pre-norm encoder block with attention in windows.

    Args:
        dim: channels of a token.
        num_heads: heads of the attention; divides ``dim``.
        window_size: side of the windows in tokens.
        mlp_ratio: hidden channels of the MLP over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the attention scores; ``None`` is ``(dim / num_heads) ** -0.5``.
        drop_path: probability of dropping a residual branch in training.
        norm_eps: epsilon of the norms.

    Maps are zero-padded to whole windows after the first norm, and the padding takes part in the attention, as in all
    detection code.

    State dict (the official names): ``norm1``, ``attn``, ``norm2``, ``mlp.fc1``, ``mlp.fc2``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_path: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.attn = WindowAttention(dim, num_heads, window_size, qkv_bias, qk_scale)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, windows: WindowLayout) -> Tensor:
        """Map tokens ``B H W C`` to tokens of the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x), windows))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SwinStage(nn.Module):
    """Blocks of one resolution, and the merging that leads to the next.

    Args:
        dim: channels of a token.
        num_heads: heads of the attention.
        window_size: side of the windows in tokens; every other block shifts its windows by half of it.
        drop_paths: probability of dropping a residual branch in training, for each block.
        merge: whether a `PatchMerging` follows.
        mlp_ratio: see `SwinBlock`, like ``qkv_bias`` and ``qk_scale``.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the attention scores.
        patch_norm: whether the merging has a norm.
        norm_eps: epsilon of the norms.

    State dict: ``blocks.<j>.*``, ``downsample.{norm,reduction}.*``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        drop_paths: Sequence[float],
        merge: bool,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        patch_norm: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shifts = [index % 2 * (window_size // 2) for index in range(len(drop_paths))]
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window_size, mlp_ratio, qkv_bias, qk_scale, rate, norm_eps) for rate in drop_paths
        )
        self.downsample = PatchMerging(dim, norm_eps if patch_norm else None) if merge else None

    def forward(self, x: Tensor, gradient_checkpointing: bool = False) -> tuple[Tensor, Tensor]:
        """Map tokens ``B H W C`` to tokens of the same shape, and to merged tokens (the same ones without merging)."""
        batch, height, width, _ = x.shape
        layouts = {
            shift: window_layout(batch, height, width, self.window_size, shift, x.device) for shift in self.shifts[:2]
        }
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            x = run(block, x, layouts[shift], checkpointed=gradient_checkpointing)
        return x, x if self.downsample is None else self.downsample(x)
