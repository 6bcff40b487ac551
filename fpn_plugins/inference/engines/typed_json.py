"""Build dataclasses from parsed JSON, with every value of the annotated type."""

from __future__ import annotations

import math
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints


def typed(kind: Any, value: Any, name: str) -> Any:
    """Convert a parsed JSON value to an annotated type.

    Args:
        kind: dataclass, tuple, ``str``, ``int``, ``float``, ``bool``, or a union of these and ``None``. Lists become
            tuples, objects dataclasses, and whole numbers floats where ``kind`` says so.
        value: the value.
        name: name of the value, for messages.

    Raises:
        ValueError: a value of another type, a number that is not finite, or an object with an unknown key.
        TypeError: an object without a required key.
    """
    if get_origin(kind) is UnionType:
        return _one_of_types(get_args(kind), value, name)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, name)
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    if kind is NoneType and value is None:
        return None
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if (kind is float and whole) or (kind is int and whole and value == int(value)):
        return kind(value)
    if kind not in (int, float) and type(value) is kind:
        return value
    raise _error(name, value, getattr(kind, "__name__", str(kind)))


def _error(name: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{name}={str(value)[:60]!r} must be of type {wanted}")


def _one_of_types(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """Convert to the only type of a union besides ``None``, or to the first one that fits."""
    if value is None and NoneType in kinds:
        return None
    given = [kind for kind in kinds if kind is not NoneType]
    for kind in given[:-1]:
        try:
            return typed(kind, value, name)
        except ValueError:
            continue
    return typed(given[-1], value, name)


def _tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _error(name, value, "list")
    wanted = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    if len(wanted) != len(value):
        raise ValueError(f"{name} has {len(value)} values, not {len(wanted)}")
    return tuple(
        typed(kind, entry, f"{name}[{index}]") for index, (kind, entry) in enumerate(zip(wanted, value, strict=True))
    )


def _dataclass(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise _error(name, value, "object")
    hints = get_type_hints(kind)
    unknown = [key for key in value if key not in hints]
    if unknown:
        raise ValueError(f"{name} has an unknown key {unknown[0][:60]!r}")
    return kind(**{key: typed(hints[key], entry, f"{name}.{key}") for key, entry in value.items()})
