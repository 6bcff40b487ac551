"""Choose the upsampling of a top-down path by name, with arguments, or by a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import one_of, shown
from .dysample import DySample
from .learned import CARAFE, DeconvUpsample, PixelShuffleUpsample

Upsample = Callable[[Tensor, tuple[int, int]], Tensor]
UpsampleMode = str | Mapping[str, Any] | Upsample


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
        "Where gathering 25 cells per pixel is affordable.",
    ),
    "dysample": UpsampleEntry(
        DySample,
        "Each new cell is read between cells, at a place that a 1x1 convolution predicts (arXiv:2308.15085).",
        "Learned upsampling at nearly the cost of a fixed one.",
    ),
}


def check_upsample(mode: UpsampleMode, channels: int) -> None:
    """Raise the errors of `make_upsample` where nothing is upsampled; no memory or random number is used."""
    with torch.device("meta"):
        make_upsample(mode, channels)


def make_upsample(mode: UpsampleMode, channels: int) -> nn.Module:
    """Build an upsampling module called as ``module(x, size)``.

    Args:
        mode: ``"nearest"``, ``"bilinear"`` (``align_corners=False``), the learned ``"deconv"``, ``"pixel_shuffle"``,
            ``"carafe"`` or ``"dysample"``, or ``{"type": one of these, **arguments of its class}``, or a function
            ``(x, size) -> x``.
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
