"""Upsampling of the top-down path: fixed and learned, always to the size of the finer map.

Sources: FPN (arXiv:1612.03144: nearest); CARAFE: Content-Aware ReAssembly of FEatures (Wang et al., ICCV 2019,
arXiv:1905.02188, section 3); pixel shuffle (Shi et al., CVPR 2016, arXiv:1609.05158). Reference code: mmcv
``cnn/bricks/upsample.py``, ``ops/carafe.py``; mmdet ``models/necks/fpn_carafe.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import lookup
from .ops.memory_format import is_channels_last

Upsample = Callable[[Tensor, tuple[int, int]], Tensor]
UpsampleMode = str | Mapping[str, Any] | Upsample


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a doubled map to the size of the finer one, at most one cell larger.

    Where the finer map is odd, the extra row or column is cropped; where its stage rounded down, the last one is
    repeated.

    Args:
        x: ``B C 2h 2w``.
        size: ``(H, W)`` of the finer map.

    Raises:
        ValueError: the finer map is larger by more than a cell.
    """
    down, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    if down > 1 or right > 1:
        raise ValueError(
            f"upsampling doubles a map to {x.shape[-2]} x {x.shape[-1]}, which is too small for {size[0]} x {size[1]}; "
            "choose neighbouring stages of the backbone, or upsample_mode='nearest'"
        )
    if down > 0 or right > 0:
        x = F.pad(x, (0, max(right, 0), 0, max(down, 0)), mode="replicate")
    return x[..., : size[0], : size[1]]


class DeconvUpsample(nn.Module):
    """Learned x2 upsampling: a transposed convolution of stride 2, fitted to the wanted size (see `fit`).

    Args:
        channels: channels of the map.
        kernel_size: side of the kernel in cells of the finer map.
    """

    def __init__(self, channels: int, kernel_size: int = 2) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(
            channels, channels, kernel_size, stride=2, padding=(kernel_size - 1) // 2, output_padding=kernel_size % 2
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most a cell more than ``2 h, 2 w``."""
        return fit(self.deconv(x), size)


class PixelShuffleUpsample(nn.Module):
    """Learned x2 upsampling: a convolution computes the four cells that each cell becomes; fitted (see `fit`).

    mmcv's ``PixelShufflePack``, with its initialisation.

    Args:
        channels: channels of the map.
        kernel_size: side of the convolution's kernel in cells; odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        _check_odd("kernel_size", kernel_size)
        self.upsample_conv = nn.Conv2d(channels, 4 * channels, kernel_size, padding=kernel_size // 2)
        _xavier(self.upsample_conv)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most a cell more than ``2 h, 2 w``."""
        return fit(F.pixel_shuffle(self.upsample_conv(x), 2), size)


class CARAFE(nn.Module):
    """Learned x2 upsampling by content: each new cell is a weighted mean of the neighbourhood of its coarse cell.

    A 1x1 convolution and a convolution of the map predict the weights, a kernel for each new cell, which a softmax
    makes a mean (paper, equations 1 to 3). Beyond the border the map is zero, and its weights count, as in mmcv. Fitted
    to the wanted size (see `fit`). Equal to mmcv's ``CARAFEPack``, of which this has the names and the initialisation.

    The neighbourhood is added up tap by tap: neither forward nor backward pass hold it unfolded, ``kernel_size ** 2``
    times the map. Under autocast the sum has the precision of the softmax.

    Args:
        channels: channels of the map.
        kernel_size: side of the neighbourhood in coarse cells; odd.
        groups: groups of channels with weights of their own.
        encoder_kernel_size: side of the kernel that predicts the weights; odd.
        encoder_dilation: its dilation.
        compressed_channels: channels that it reads.

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
        if groups < 1 or channels % groups:
            raise ValueError(f"groups={groups} must divide the {channels} channels")
        self.kernel_size = kernel_size
        self.groups = groups
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
        """mmcv's initialisation: Glorot's for the compressor, and weights that begin as nearly uniform."""
        _xavier(self.channel_compressor)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        if self.content_encoder.bias is not None:
            nn.init.zeros_(self.content_encoder.bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``, at most a cell more than ``2 h, 2 w``."""
        weights = self.content_encoder(self.channel_compressor(x))
        weights = weights.unflatten(1, (self.groups, self.kernel_size * self.kernel_size, 4)).softmax(
            2
        )  # B G K*K 4 h w
        doubled = fit(F.pixel_shuffle(reassemble(x, weights, self.kernel_size), 2), size)
        return doubled.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else doubled


def reassemble(x: Tensor, weights: Tensor, kernel_size: int) -> Tensor:
    """CARAFE's weighted sums of neighbourhoods (paper, equation 4), several for each cell.

    Args:
        x: ``B C h w``.
        weights: ``B G K*K S h w``: for each of ``G`` groups of channels, ``S`` kernels of ``K x K`` cells.
        kernel_size: ``K``, odd.

    Returns:
        ``B C*S h w`` in the type of ``x``, channel ``c * S + s`` the sum of channel ``c`` with kernel ``s``.
    """
    height, width, margin = x.shape[-2], x.shape[-1], kernel_size // 2
    padded = F.pad(x, (margin, margin, margin, margin)).unflatten(1, (weights.shape[1], -1)).unsqueeze(3)
    taps = weights.unsqueeze(2).unbind(3)  # of B G 1 S h w, to go with B G C/G 1 h w
    total = padded[..., :height, :width] * taps[0]
    for number in range(1, len(taps)):
        row, column = number // kernel_size, number % kernel_size
        total.addcmul_(padded[..., row : row + height, column : column + width], taps[number])
    return total.flatten(1, 3).to(x.dtype)


def _xavier(conv: nn.Conv2d) -> None:
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _check_odd(argument: str, value: int) -> None:
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{argument}={value} must be odd, so that a neighbourhood has a middle")


def _nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="nearest")


def _bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class FunctionalUpsample(nn.Module):
    """A parameter-free upsampling ``(x, size) -> x`` as a module, so that it sits beside the learned ones."""

    def __init__(self, function: Upsample) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``."""
        return self.function(x, size)


UPSAMPLE_MODES: dict[str, Callable[..., nn.Module]] = {
    "nearest": lambda channels: FunctionalUpsample(_nearest),
    "bilinear": lambda channels: FunctionalUpsample(_bilinear),
    "deconv": DeconvUpsample,
    "pixel_shuffle": PixelShuffleUpsample,
    "carafe": CARAFE,
}


def make_upsample(mode: UpsampleMode, channels: int) -> nn.Module:
    """Build an upsampling module called as ``module(x, size)``.

    Args:
        mode: ``"nearest"``, ``"bilinear"`` (``align_corners=False``), the learned ``"deconv"``, ``"pixel_shuffle"`` and
            ``"carafe"``, or ``{"type": one of these, **arguments of its class}``, or a function ``(x, size) -> x``.
        channels: channels of the map.

    Raises:
        ValueError: unknown name, or an argument outside of its class's range.
        TypeError: an argument that the class does not have.
    """
    if isinstance(mode, str):
        mode = {"type": mode}
    if isinstance(mode, Mapping):
        arguments = {str(key): value for key, value in mode.items()}
        return lookup(str(arguments.pop("type", None)), UPSAMPLE_MODES, "upsample_mode")(channels, **arguments)
    return FunctionalUpsample(mode)
