"""Resample maps by powers of two with learned layers, as in pyramids of plain Vision Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import nn

from .layers import NormFactory, make_norm
from .ops.pooling import MaxPool2d


def make_resample(
    channels: int, scale: Fraction, norm: str | NormFactory | None = None, halve_channels: bool = False
) -> nn.Sequential:
    """Build layers that resample a map by a power of two.

    Each doubling is a 2x2 transposed convolution of stride 2, with norm and GELU between two of them; factors below 1
    max-pool, rounding down; a ``scale`` of 1 has no layers. Sources, with the same numbering of layers: BEiT
    (arXiv:2106.08254) ``semantic_segmentation/backbone/beit.py``; with halved channels, Detectron2's
    ``SimpleFeaturePyramid``.

    Args:
        channels: channels of the map.
        scale: size of the output relative to the map.
        norm: norm between two transposed convolutions, see `make_norm`.
        halve_channels: halve the channels at each doubling, down to ``channels / scale``.

    Raises:
        ValueError: ``scale`` is not a power of two, or the channels cannot be halved often enough.
    """
    up, down = scale.numerator, scale.denominator
    if scale <= 0 or up & (up - 1) or down & (down - 1):
        raise ValueError(f"scale={float(scale):g} must be a power of two")
    if halve_channels and channels % up:
        raise ValueError(
            f"channels={channels} cannot be halved for each doubling of scale {up}; they must be a multiple of {up}"
        )
    if down > 1:
        return nn.Sequential(MaxPool2d(down, stride=down))
    layers: list[nn.Module] = []
    for _ in range(up.bit_length() - 1):
        if layers:
            layers += [make_norm(norm, channels) or nn.Identity(), nn.GELU()]
        out_channels = channels // 2 if halve_channels else channels
        layers.append(nn.ConvTranspose2d(channels, out_channels, 2, stride=2))
        channels = out_channels
    return nn.Sequential(*layers)


def scaled_strides(stride: int, scale_factors: Sequence[Fraction]) -> list[int]:
    """Divide a map's stride in pixels by each factor.

    Raises:
        ValueError: a factor that does not divide the stride.
    """
    exact = [stride / scale for scale in scale_factors]
    if any(scaled.denominator != 1 for scaled in exact):
        raise ValueError(
            f"scale_factors={[float(scale) for scale in scale_factors]} make strides "
            f"{[float(scaled) for scaled in exact]} from the map's {stride}, but strides must be whole pixels; leave "
            "out the largest factors, or build the backbone with another stride (ViT: patch_size=16)"
        )
    return [int(scaled) for scaled in exact]
