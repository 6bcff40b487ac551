"""Make small random pyramids for tests, and compare pyramids with errors that name the level that differs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .features import FeatureSpec

# C2..C5 of a tiny backbone, with different channels on each level
TINY_SPECS = tuple(FeatureSpec(channels, stride) for channels, stride in ((4, 4), (6, 8), (8, 16), (10, 32)))


def make_pyramid(
    specs: Sequence[FeatureSpec] = TINY_SPECS,
    image_size: tuple[int, int] = (64, 96),
    batch_size: int = 1,
    seed: int | None = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, ...]:
    """Draw maps of a backbone's shapes from a normal distribution.

    Args:
        specs: channels and strides, high to low resolution.
        image_size: height and width in pixels; maps are rounded up where a stride does not divide them.
        batch_size: number of images.
        seed: seed of the values, which are the same on every device; ``None`` uses PyTorch's global generator.
        dtype: type of the maps.
        device: device of the maps.

    Returns:
        One map ``B C ceil(H / stride) ceil(W / stride)`` per spec.

    Raises:
        ValueError: no specs, or a side or a batch size below 1.
    """
    if not specs or min(*image_size, batch_size) < 1:
        raise ValueError(
            f"specs={list(specs)}, image_size={tuple(image_size)}, batch_size={batch_size}: a pyramid needs at "
            "least one map, pixel and image"
        )
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    shapes = [(batch_size, s.channels, *(-(-side // s.stride) for side in image_size)) for s in specs]
    return tuple(torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)


def assert_same_pyramid(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Compare two pyramids, maps ``B C H W`` from high to low resolution, level by level as `assert_same_map` does.

    Raises:
        AssertionError: another number of maps, another shape, or a larger difference; names the level.
    """
    if len(found) != len(expected):
        raise AssertionError(f"{len(found)} maps instead of {len(expected)}")
    for level, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert_same_map(ours, theirs, tolerance, f"level {level}")


def assert_same_map(
    found: Tensor, expected: Tensor, tolerance: float = 1e-5, name: str = "map", floor: float = 0.0
) -> None:
    """Compare two tensors of any floating types by their largest difference.

    Args:
        found: tensor of any shape.
        expected: tensor that ``found`` should equal.
        tolerance: largest difference, relative to the largest absolute value of ``expected``; 0 requires equality.
        name: name of the tensor, for messages.
        floor: lower bound of the value that ``tolerance`` is relative to.

    Raises:
        AssertionError: another shape, a larger difference, or NaN.
    """
    if found.shape != expected.shape:
        raise AssertionError(f"{name}: shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    dtype = torch.promote_types(found.dtype, expected.dtype)
    found, expected = found.detach().to(dtype), expected.detach().to(dtype)
    scale = 1.0
    if tolerance and expected.numel():
        scale = max(float(expected.abs().max()), floor) or 1.0
        found, expected = found / scale, expected / scale

    def message(text: str) -> str:
        return f"{name} differs, in units of {scale:.3g}: {text}"

    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, msg=message)
