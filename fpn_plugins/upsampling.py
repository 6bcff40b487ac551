"""Upsample maps in the top-down path, fixed or learned, always to the size of the finer map.

Sources: FPN (arXiv:1612.03144: nearest); CARAFE (Wang et al., ICCV 2019, arXiv:1905.02188, section 3); pixel shuffle
(Shi et al., CVPR 2016, arXiv:1609.05158). Reference code: mmcv ``cnn/bricks/upsample.py``, ``ops/carafe.py``; mmdet
``models/necks/fpn_carafe.py``. For learned resampling of a plain ViT's map see ``resampling.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import divisor, one_of, positive_int, positive_ints, shown
from .layers import init_convs
from .ops.cropping import fit
from .ops.memory_format import is_channels_last
from .ops.reassembly import reassemble

Upsample = Callable[[Tensor, tuple[int, int]], Tensor]
UpsampleMode = str | Mapping[str, Any] | Upsample


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


def _nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="nearest")


def _bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class FunctionalUpsample(nn.Module):
    """Parameter-free function ``(x, size) -> x`` as a module."""

    def __init__(self, function: Upsample) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``B C H W`` with ``(H, W) = size``."""
        return self.function(x, size)


class UpsampleEntry(NamedTuple):
    """One value of ``upsample_mode``: its factory, called with channels and arguments, and its entry in the docs."""

    build: Callable[..., nn.Module]
    idea: str
    use_when: str


UPSAMPLE_MODES = {
    "nearest": UpsampleEntry(
        lambda channels: FunctionalUpsample(_nearest),
        "Each cell is copied into four.",
        "The paper's mode, and that of all pre-trained detectors.",
    ),
    "bilinear": UpsampleEntry(
        lambda channels: FunctionalUpsample(_bilinear),
        "Linear interpolation of the four nearest cells.",
        "Smoother maps for dense prediction; little else changes.",
    ),
    "deconv": UpsampleEntry(
        DeconvUpsample,
        "A learned 2x2 transposed convolution of stride 2.",
        "When training is long enough to learn it from scratch.",
    ),
    "pixel_shuffle": UpsampleEntry(
        PixelShuffleUpsample,
        "A convolution to four times the channels, rearranged into 2x2 cells (arXiv:1609.05158).",
        "Learned upsampling without the checkerboard artifacts of transposed convolutions; the most expensive mode.",
    ),
    "carafe": UpsampleEntry(
        CARAFE,
        "Each new cell is a weighted mean of 5x5 cells; the weights are predicted from the content (arXiv:1905.02188).",
        "Where gathering 25 cells per pixel is affordable; mmdet's Faster R-CNN R50 gains 1.2 box AP (37.4 to 38.6).",
    ),
}


def check_upsample(mode: UpsampleMode, channels: int) -> None:
    """Raise the errors of `make_upsample` where nothing is upsampled; no memory or random number is used."""
    with torch.device("meta"):
        make_upsample(mode, channels)


def make_upsample(mode: UpsampleMode, channels: int) -> nn.Module:
    """Build an upsampling module called as ``module(x, size)``.

    Args:
        mode: ``"nearest"``, ``"bilinear"`` (``align_corners=False``), the learned ``"deconv"``, ``"pixel_shuffle"`` or
            ``"carafe"``, or ``{"type": one of these, **arguments of its class}``, or a function ``(x, size) -> x``.
        channels: channels of the map.

    Raises:
        ValueError: unknown name, or an argument outside its class's range.
        TypeError: an argument that the class does not have, or no mode at all.
    """
    if isinstance(mode, str):
        mode = {"type": mode}
    if isinstance(mode, Mapping):
        arguments = {str(key): value for key, value in mode.items()}
        name = one_of("upsample_mode", arguments.pop("type", None), UPSAMPLE_MODES, ", or pass a function")
        try:
            return UPSAMPLE_MODES[name].build(channels, **arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"upsample_mode={shown(dict(mode))}: {error}") from error
    if not callable(mode):
        raise TypeError(
            f"upsample_mode={shown(mode)} must be one of {sorted(UPSAMPLE_MODES)}, a mapping such as "
            '{"type": "carafe", "kernel_size": 3}, or a function (x, size) -> x'
        )
    return FunctionalUpsample(mode)
