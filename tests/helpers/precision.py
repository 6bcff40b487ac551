"""One rule for every comparison of maps and gradients.

What a test claims about mathematics is computed in double precision, where two orders of the same additions differ by
1e-13 or less and an error by far more than `DOUBLE`. What it claims about single precision (other runtimes, the weights
as they are deployed) is compared with `single`, which follows from the number of additions. Both are relative to the
largest value of each map: values near zero are differences of larger ones and share their rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fpn_plugins.testing import assert_same_map

DOUBLE = 1e-10
# additions in a row behind a value of a small model: ten layers of a few hundred
ADDITIONS = 4_000
# rounding errors of a sum grow with the root of its length; the factor covers norms that amplify them and rare sums
SAFETY = 8


def single(additions: int = ADDITIONS, dtype: torch.dtype = torch.float32) -> float:
    """Tolerance in single precision for values behind that many additions, relative to the largest one."""
    return SAFETY * torch.finfo(dtype).eps * additions**0.5


def tolerance_of(dtype: torch.dtype, additions: int = ADDITIONS) -> float:
    """Tolerance of a comparison in ``dtype``; integers and booleans have to be equal."""
    if not dtype.is_floating_point:
        return 0.0
    return DOUBLE if dtype == torch.float64 else single(additions, dtype)


def assert_same_maps(
    got: Any,
    expected: Any,
    *,
    tolerance: float | None = None,
    additions: int = ADDITIONS,
    floor: float = 0.0,
) -> None:
    """Check that tensors agree to rounding.

    Args:
        got: tensor, or lists, tuples and mappings of tensors; ``None`` matches ``None``.
        expected: likewise; with a list for a tuple or the other way round, but the same keys.
        tolerance: relative to the largest value of each expected tensor. 0 asks for equal values. By default it follows
            from the type, which then has to be the same on both sides.
        additions: behind each value, for the default in single precision.
        floor: smallest value that counts as the largest one of a tensor.
    """
    pairs = list(_pairs(got, expected, ""))
    assert pairs, "there is nothing to compare"
    for name, ours, theirs in pairs:
        if not tolerance:
            assert ours.dtype == theirs.dtype, f"{name or 'map'}: {ours.dtype} instead of {theirs.dtype}"
        allowed = tolerance_of(theirs.dtype, additions) if tolerance is None else tolerance
        assert_same_map(ours, theirs, allowed, name or "map", floor)


def assert_same_gradients(got: Any, expected: Any, *, tolerance: float | None = None) -> None:
    """`assert_same_maps` for gradients of one loss: those without effect, such as a bias before a norm, are rounding.

    They count as equal where they are small beside the largest gradient.
    """
    largest = max(float(theirs.detach().abs().max()) for _, _, theirs in _pairs(got, expected, "") if theirs.numel())
    assert largest > 0, "every gradient is zero"
    assert_same_maps(got, expected, tolerance=tolerance, floor=1e-3 * largest)


def assert_same_losses(got: Mapping[str, float], expected: Mapping[str, float], tolerance: float = 2e-5) -> None:
    """Check that losses of a detector in single precision agree, each relative to itself and to 0.1."""
    ours, theirs = ({key: torch.tensor(float(x)) for key, x in losses.items()} for losses in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0.1 * tolerance)


def assert_near_maps(got: Any, expected: Any, tolerance: float) -> None:
    """Check that the norm of each difference is at most ``tolerance`` of the norm of the tensor.

    For types of few digits, whose single values scatter too much for a bound on the largest difference.
    """
    for name, ours, theirs in _pairs(got, expected, ""):
        ours, theirs = ours.detach().double(), theirs.detach().double()
        assert ours.shape == theirs.shape, f"{name or 'map'}: {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
        share = (ours - theirs).norm() / theirs.norm()
        torch.testing.assert_close(
            share, torch.zeros_like(share), rtol=0, atol=tolerance, msg=lambda t, name=name: f"{name or 'map'}: {t}"
        )


def _pairs(got: Any, expected: Any, name: str) -> list[tuple[str, Tensor, Tensor]]:
    if expected is None:  # a gradient of what is not read
        assert got is None, f"{name or 'map'}: {type(got).__name__} instead of None"
        return []
    if isinstance(expected, Tensor):
        assert isinstance(got, Tensor), f"{name or 'map'}: {type(got).__name__} instead of a tensor"
        return [(name, got, expected)]
    if isinstance(expected, Mapping):
        assert isinstance(got, Mapping) and set(got) == set(expected), f"{name}: other keys, {set(got) ^ set(expected)}"
        return [pair for key in expected for pair in _pairs(got[key], expected[key], f"{name}.{key}".lstrip("."))]
    assert isinstance(expected, Sequence) and isinstance(got, Sequence), f"{name}: {type(got)}, {type(expected)}"
    assert len(got) == len(expected), f"{name}: {len(got)} tensors instead of {len(expected)}"
    pairs = enumerate(zip(got, expected, strict=True))
    return [pair for index, (a, b) in pairs for pair in _pairs(a, b, f"{name}[{index}]")]
