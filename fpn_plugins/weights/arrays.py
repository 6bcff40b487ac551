"""Rebuild pickled NumPy arrays as tensors, without NumPy's own functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

MAX_DIMENSIONS = 64
_ARRAYS = {
    **{"b1": torch.bool, "i1": torch.int8, "u1": torch.uint8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64},
    **{"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "c8": torch.complex64, "c16": torch.complex128},
}
MULTIARRAY = [f"numpy.{core}.multiarray" for core in ("core", "_core")]
FROMBUFFER = [f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")]  # pickle protocol 5


class PickledDtype:
    """NumPy data type of a pickled array: numbers only."""

    def __init__(self, code: str, *unused: object) -> None:
        if not isinstance(code, str) or code not in _ARRAYS:
            raise UnpicklingError(f"refused an array of data type {code!r:.20}: only {', '.join(_ARRAYS)}")
        self.dtype = _ARRAYS[code]

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] == ">" or any(value is not None for value in state[2:5]):
            raise UnpicklingError("refused an array that is big-endian or has fields")


class PickledArray:
    """NumPy array in a pickle, decoded to ``tensor`` without NumPy; ``is_scalar`` marks NumPy's scalars."""

    tensor: Tensor
    is_scalar = False

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, dtype, fortran, data = state
        self.tensor = _decode(data, dtype, shape, "F" if fortran else "C")


def number_of(sizes: Sequence[int]) -> int:
    """Return the number of elements of a shape, whose sizes are checked."""
    if len(sizes) > MAX_DIMENSIONS or not all(isinstance(size, int) and 0 <= size < 2**63 for size in sizes):
        raise UnpicklingError(f"refused a shape that is not up to {MAX_DIMENSIONS} sizes")
    return math.prod(sizes)


def _decode(data: Any, kind: PickledDtype, shape: Sequence[int], order: str = "C") -> Tensor:
    raw = bytearray(data.encode("latin1") if isinstance(data, str) else data)
    if len(raw) != number_of(shape) * kind.dtype.itemsize:
        raise UnpicklingError(f"array of shape {tuple(shape)} and {kind.dtype} has {len(raw)} bytes")
    if not raw:
        return torch.empty(tuple(shape), dtype=kind.dtype)
    values = torch.frombuffer(raw, dtype=kind.dtype)
    if order == "C":
        return values.view(tuple(shape))
    return values.view(tuple(reversed(shape))).permute(*reversed(range(len(shape)))).contiguous()


def array_table(count: Callable[[int], None]) -> dict[str, Callable[..., Any]]:
    """Map the globals of pickled NumPy arrays to functions that rebuild `PickledArray` and ``count`` their bytes."""

    def build(data: Any, dtype: PickledDtype, shape: Sequence[int] = (), order: str = "C") -> PickledArray:
        array = PickledArray()
        array.tensor = _decode(data, dtype, shape, order)
        count(len(data))
        return array

    def scalar(dtype: PickledDtype, data: Any) -> PickledArray:
        array = build(data, dtype)
        array.is_scalar = True
        return array

    table: dict[str, Callable[..., Any]] = {"numpy.dtype": PickledDtype, "numpy.ndarray": PickledArray}
    table["builtins.bytes"] = lambda: b""  # of an empty array
    table |= dict.fromkeys(FROMBUFFER, build)
    for module in MULTIARRAY:
        table[f"{module}._reconstruct"] = lambda *unused: PickledArray()
        table[f"{module}.scalar"] = scalar
    return table
