"""Check arguments: each function returns the checked value, or raises an error that states what was expected.

``argument`` is the argument's name, for the message, and ``value`` its value.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any


def positive_int(argument: str, value: Any) -> int:
    """Return an integer of at least 1.

    Raises:
        TypeError: not an integer (``True`` and ``2.0`` are not).
        ValueError: an integer below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument}={value!r} must be an integer")
    if value < 1:
        raise ValueError(f"{argument}={value} must be at least 1")
    return value


def keyword_parameters(kind: type, what: str) -> None:
    """Raise ``TypeError`` if a constructor parameter cannot be given by name, or is named ``type``.

    ``what`` is the kind of class, for the message, such as ``"backbone"``.
    """
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    unusable = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY or p.name == "type"]
    if unusable:
        raise TypeError(
            f"{what} {kind.__name__!r} needs keyword parameters: rename {unusable[0]!r}, or drop the '/' after it"
        )


def probability(argument: str, value: float) -> float:
    """Return a probability in ``[0, 1)``.

    Raises:
        ValueError: a value outside this range.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{argument}={value} must be at least 0 and below 1")
    return float(value)


def divisor(argument: str, value: int, total: int, meaning: str) -> int:
    """Return ``value`` if it divides ``total``; ``meaning`` says what ``total`` counts.

    Raises:
        ValueError: a value below 1, or one that does not divide ``total``.
    """
    if value < 1 or total % value:
        raise ValueError(f"{argument}={value} must divide the {total} {meaning}")
    return value


def one_of(argument: str, value: Any, choices: Iterable[str], remedy: str = "") -> str:
    """Return ``value`` if it is one of ``choices``; ``remedy`` is an alternative, such as ``", or pass a factory"``.

    Raises:
        ValueError: another value; the message lists the choices and suggests similar ones.
    """
    names = list(choices)
    if value not in names:
        near = near_names(value, names)
        raise ValueError(f"{argument}={value!r} is unknown; choose one of {sorted(names)}{remedy}{near}")
    return str(value)


def near_names(name: Any, choices: Iterable[str], number: int = 3) -> str:
    """Suggest up to ``number`` of ``choices`` spelled like ``name``: ``" (near: a, b)"``, or ``""`` without any."""
    near = difflib.get_close_matches(str(name), list(choices), n=number, cutoff=0.5)
    return f" (near: {', '.join(near)})" if near else ""


def ascending(argument: str, indices: Sequence[int], count: int, meaning: str) -> tuple[int, ...]:
    """Return ``indices`` as a tuple if they are ascending positions below ``count``.

    ``meaning`` completes the message "must be ascending positions ...", for example "among the 12 blocks (0..11)".

    Raises:
        TypeError: not a sequence of integers.
        ValueError: no positions, positions out of order, or positions out of range.
    """
    if not isinstance(indices, Iterable) or any(type(i) is bool or not hasattr(i, "__index__") for i in indices):
        raise TypeError(f"{argument}={indices!r} must be a sequence of integers")
    chosen = tuple(int(index) for index in indices)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"{argument}={list(chosen)} must be ascending positions {meaning}")
    return chosen
