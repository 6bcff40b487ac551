"""Record how far each numeric comparison is from failing.

With ``FPN_PLUGINS_TEST_MARGINS=FILE``, every `torch.testing.assert_close` of a test appends one JSON line to FILE:
``test``, ``dtype``, ``used`` (largest share of the allowed difference that was taken; above 1 the comparison fails) and
``exact`` (no difference was allowed). ``tools/benchmarks/margins.py`` reads them. Processes of pytest-xdist append
to the same file, one write per line.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.testing._comparison import default_tolerances

VARIABLE = "FPN_PLUGINS_TEST_MARGINS"
VALUES = (Tensor, np.ndarray, float, int)


def record(dtype: str, used: float, exact: bool = False) -> None:
    """Append one comparison, if this run records them."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    line = json.dumps({"test": test, "dtype": dtype, "used": used if used < float("inf") else 1e300, "exact": exact})
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def install() -> None:
    """Replace `torch.testing.assert_close`, also in modules that have imported it by name."""
    original = torch.testing.assert_close
    recording = recorded(original)
    torch.testing.assert_close = recording
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("assert_close") is original and not module.__name__.startswith("torch."):
            module.assert_close = recording  # type: ignore[attr-defined]


def recorded(original: Callable[..., None]) -> Callable[..., None]:
    """`assert_close` that records each comparison before it makes it."""

    @functools.wraps(original)
    def assert_close(
        actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None, **options: Any
    ) -> None:
        for one, other in _pairs(actual, expected):
            record(str(one.dtype).removeprefix("torch."), used(one, other, rtol, atol), rtol == atol == 0)
        original(actual, expected, rtol=rtol, atol=atol, **options)

    return assert_close


def _pairs(actual: Any, expected: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Tensors that `assert_close` compares; nothing where the structures differ, which it reports itself."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        for key in actual.keys() & expected.keys():
            yield from _pairs(actual[key], expected[key])
    elif isinstance(actual, Sequence) and isinstance(expected, Sequence) and not isinstance(actual, str):
        for one, other in zip(actual, expected, strict=False):
            yield from _pairs(one, other)
    elif isinstance(actual, (Tensor, np.ndarray, float, int)) and isinstance(
        expected, (Tensor, np.ndarray, float, int)
    ):
        one, other = torch.as_tensor(actual).detach(), torch.as_tensor(expected).detach()
        if one.shape == other.shape and one.numel():
            yield one, other


def used(actual: Tensor, expected: Tensor, rtol: float | None, atol: float | None) -> float:
    """Largest difference, in units of what is allowed at its place."""
    if rtol is None or atol is None:
        rtol, atol = default_tolerances(actual, expected)
    one, other = actual.double(), expected.double()
    difference = torch.where(one == other, 0.0, (one - other).abs())
    share = torch.where(difference == 0, 0.0, difference / (atol + rtol * other.abs()))
    return float(share.nan_to_num(float("inf"), float("inf")).max())
