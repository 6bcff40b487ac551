"""Convolution of chosen cells: their neighborhoods as columns, and columns back into a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import operator


@operator
def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``col`` ``C*K M`` with the neighborhoods of ``M`` cells of one image ``1 C H W``, zero beyond the border."""
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    rows = mask_h_idx[:, None] + torch.arange(kernel_h, device=im.device)
    columns = mask_w_idx[:, None] + torch.arange(kernel_w, device=im.device)
    patches = padded[:, rows[:, :, None], columns[:, None, :]]  # C M kernel_h kernel_w
    col.copy_(patches.permute(0, 2, 3, 1).flatten(0, 2))


@operator
def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Write the values ``C M`` of ``M`` cells into the map ``1 C H W``."""
    im[0][:, mask_h_idx, mask_w_idx] = col.to(im.dtype)
