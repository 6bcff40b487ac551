"""Learned upsampling of a map: transposed convolution, pixel shuffle, and CARAFE.

Sources: CARAFE (Wang et al., ICCV 2019, arXiv:1905.02188, section 3); pixel shuffle (Shi et al., CVPR 2016,
arXiv:1609.05158). Reference code: mmcv ``cnn/bricks/upsample.py``, ``ops/carafe.py``; mmdet
``models/necks/fpn_carafe.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import divisor, positive_int, positive_ints
from ..layers import init_convs
from ..ops.cropping import fit
from ..ops.memory_format import is_channels_last
from ..ops.reassembly import reassemble


class DeconvUpsample(nn.Module):
    """Learned x2 upsampling: a transposed convolution of stride 2, cropped or padded to the target size by `fit`.

    Args:
        channels: channels of the map.
        kernel_size: side of the kernel in cells of the finer map.
    """

    def __init__(self, channels: int, kernel_size: int = 2) -> None:
        super().__init__()
        positive_ints(channels=channels, kernel_size=kernel_size)
        self.deconv = nn.ConvTranspose2d(
            channels, channels, kernel_size, stride=2, padding=(kernel_size - 1) // 2, output_padding=kernel_size % 2
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most one cell beyond ``2 h, 2 w``."""
        return fit(self.deconv(x), size)


class PixelShuffleUpsample(nn.Module):
    """Learned x2 upsampling: a convolution computes four cells per cell, as in mmcv's ``PixelShufflePack``; see `fit`.

    Args:
        channels: channels of the map.
        kernel_size: side of the convolution's kernel in cells; odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        _check_odd("kernel_size", kernel_size)
        self.upsample_conv = nn.Conv2d(channels, 4 * channels, kernel_size, padding=kernel_size // 2)
        init_convs(self.upsample_conv, "xavier_uniform")

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most one cell beyond ``2 h, 2 w``."""
        return fit(F.pixel_shuffle(self.upsample_conv(x), 2), size)


class CARAFE(nn.Module):
    """Learned x2 upsampling by content: each new cell is a weighted mean of the neighborhood of its coarse cell.

    A 1x1 convolution and a convolution of its output predict one kernel per new cell, normalized by a softmax (paper,
    equations 1 to 3). Cells beyond the border are zero and still have weights, as in mmcv. The result is cropped or
    padded by `fit`. Matches mmcv's ``CARAFEPack``, including its parameter names and initialization.

    The neighborhood is summed tap by tap, so the unfolded map (``kernel_size ** 2`` times as large) is never
    materialized, in forward or backward. Under autocast the sum has the precision of the softmax.

    Args:
        channels: channels of the map.
        kernel_size: side of the neighborhood in coarse cells; odd.
        groups: number of channel groups, each with its own weights.
        encoder_kernel_size: side of the convolution that predicts the weights; odd.
        encoder_dilation: dilation of that convolution.
        compressed_channels: input channels of that convolution.

    Raises:
        ValueError: an even ``kernel_size`` or ``encoder_kernel_size``, or ``groups`` that do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 5,
        groups: int = 1,
        encoder_kernel_size: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        _check_odd("kernel_size", kernel_size)
        _check_odd("encoder_kernel_size", encoder_kernel_size)
        positive_ints(encoder_dilation=encoder_dilation, compressed_channels=compressed_channels)
        self.kernel_size = kernel_size
        self.groups = divisor("groups", groups, channels, "channels")
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            4 * groups * kernel_size**2,
            encoder_kernel_size,
            padding=(encoder_kernel_size - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw mmcv's initial weights: Glorot's for the compressor, and nearly uniform kernels."""
        init_convs(self.channel_compressor, "xavier_uniform")
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        if self.content_encoder.bias is not None:
            nn.init.zeros_(self.content_encoder.bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most one cell beyond ``2 h, 2 w``."""
        weights = self.content_encoder(self.channel_compressor(x))
        weights = weights.unflatten(1, (self.groups, self.kernel_size * self.kernel_size, 4))  # B G K*K 4 h w
        weights = weights.softmax(2)
        doubled = fit(F.pixel_shuffle(reassemble(x, weights, self.kernel_size), 2), size)
        return doubled.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else doubled


def _check_odd(argument: str, value: Any) -> None:
    if positive_int(argument, value) % 2 == 0:
        raise ValueError(f"{argument}={value} must be odd, so that the neighborhood has a center")
