"""Parts of a Swin Transformer; tokens stay on their grid, ``B H W C``.

Swin Transformer (arXiv:2103.14030, section 3). Names and results match the official code for detection, which first
pads each map to whole windows and then shifts it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import checkpointing
from ...ops.windows import to_windows, windows_along
from ..vit.blocks import EncoderBlock, PatchEmbedding
from .window_attention import window_layout


class SwinPatchEmbedding(PatchEmbedding):
    """`PatchEmbedding` of images zero-padded to whole patches, then a norm (``norm_eps=None`` omits it)."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, norm_eps: float | None) -> None:
        super().__init__(patch_size, in_chans, embed_dim)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(embed_dim, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``B in_chans H W`` to tokens ``B H/patch_size W/patch_size C``, rounded up."""
        (height, width), side = x.shape[-2:], self.patch_size
        # without a remainder, which PyTorch's compiler of dynamic sizes cannot convert
        below, beside = windows_along(height, side) * side - height, windows_along(width, side) * side - width
        x = F.pad(x, (0, beside, 0, below))
        return self.norm(super().forward(x))


class PatchMerging(nn.Module):
    """Linear layer on the tokens of each 2x2 patch; halves the resolution and doubles the channels, column by column.

    Args:
        dim: channels of a token.
        norm_eps: epsilon of the norm before the reduction; ``None`` omits the norm.
    """

    def __init__(self, dim: int, norm_eps: float | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(4 * dim, norm_eps)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B H W C`` to ``B H/2 W/2 2*C``, rounded up."""
        batch, height, width, channels = x.shape
        patches = (
            to_windows(x, 2)
            .transpose(1, 2)
            .reshape(batch, windows_along(height, 2), windows_along(width, 2), 4 * channels)
        )
        return self.reduction(self.norm(patches))


class SwinStage(nn.Module):
    """Blocks of one resolution, and the merging that leads to the next.

    Args:
        blocks: encoder blocks with a `WindowAttention`; every other one shifts its windows by half of their side.
        window_size: side of the windows in tokens.
        downsample: merging after the blocks, or ``None``.

    State dict: ``blocks.<j>.*``, ``downsample.{norm,reduction}.*``.
    """

    def __init__(self, blocks: Sequence[EncoderBlock], window_size: int, downsample: PatchMerging | None) -> None:
        super().__init__()
        self.window_size = window_size
        self.shifts = [index % 2 * (window_size // 2) for index in range(len(blocks))]
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor, gradient_checkpointing: bool = False) -> tuple[Tensor, Tensor]:
        """Map tokens ``B H W C`` to tokens of the same shape, and to merged tokens (the same ones without merging)."""
        batch, height, width, _ = x.shape
        layouts = {
            shift: window_layout(batch, height, width, self.window_size, shift, x.device) for shift in self.shifts[:2]
        }
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            x = checkpointing.run(block, x, layouts[shift], checkpointed=gradient_checkpointing)
        return x, x if self.downsample is None else self.downsample(x)
