"""Pyramids to test with: small random ones, and a comparison that says which level differs and by how much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .features import FeatureSpec

# C2..C5 of a backbone that is as small as it can be, with channels that tell the levels apart
TINY_SPECS = tuple(FeatureSpec(channels, stride) for channels, stride in ((4, 4), (6, 8), (8, 16), (10, 32)))


def make_pyramid(
    specs: Sequence[FeatureSpec] = TINY_SPECS,
    image_size: tuple[int, int] = (64, 96),
    batch_size: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, ...]:
    """Maps as a backbone gives them: normally distributed, the same for the same seed, on any device.

    Args:
        specs: channels and strides, high to low resolution.
        image_size: height and width in pixels; sides that a stride does not divide are rounded up, as most stages do.
        batch_size: number of images.
        seed: of the values.
        dtype: of the maps.
        device: of the maps.

    Returns:
        One map ``B C ceil(H / stride) ceil(W / stride)`` per spec.

    Raises:
        ValueError: no specs, a side below one pixel, or no image.
    """
    if not specs or min(*image_size, batch_size) < 1:
        raise ValueError(
            f"specs={list(specs)}, image_size={tuple(image_size)}, batch_size={batch_size}: at least one map, pixel "
            "and image are needed"
        )
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch_size, s.channels, *(-(-side // s.stride) for side in image_size)) for s in specs]
    return tuple(torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)


def assert_same_pyramid(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Compare two pyramids level by level.

    Args:
        found: maps ``B C H W``, high to low resolution.
        expected: the maps that they should be.
        tolerance: largest difference, relative to the largest value of the level that is expected.

    Raises:
        AssertionError: another number of maps, another shape, or a value further apart, NaN included; says at which
            level.
    """
    if len(found) != len(expected):
        raise AssertionError(f"{len(found)} maps instead of {len(expected)}")
    for level, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if ours.shape != theirs.shape:
            raise AssertionError(f"level {level}: shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}")
        if not theirs.numel():
            continue
        scale = float(theirs.detach().abs().max())
        gap = float((ours.detach().double() - theirs.detach().double()).abs().max())
        if not gap <= tolerance * scale:
            raise AssertionError(f"level {level}: differs by {gap:.3g}, the largest value is {scale:.3g}")
