"""Checks of arguments. Each returns the checked value, or raises an error with argument, value and expectation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def positive_int(argument: str, value: Any) -> int:
    """Return a whole number of at least 1.

    Args:
        argument: name of the argument, for the message.
        value: its value.

    Raises:
        TypeError: not an integer (``True`` and ``2.0`` are not).
        ValueError: an integer below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument}={value!r} must be an integer")
    if value < 1:
        raise ValueError(f"{argument}={value} must be at least 1")
    return value


def probability(argument: str, value: float) -> float:
    """Return a probability in ``[0, 1)``.

    Raises:
        ValueError: a value outside this range.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{argument}={value} must be at least 0 and below 1")
    return float(value)


def divisor(argument: str, value: int, total: int, meaning: str) -> int:
    """Return ``value``, which divides ``total``; ``meaning`` says what the total counts.

    Raises:
        ValueError: a value below 1, or one that leaves a remainder.
    """
    if value < 1 or total % value:
        raise ValueError(f"{argument}={value} must divide the {total} {meaning}")
    return value


def one_of(argument: str, value: Any, choices: Iterable[str], remedy: str = "") -> str:
    """Return ``value``, which is one of ``choices``.

    Args:
        argument: name of the argument, for the message.
        value: its value.
        choices: allowed values.
        remedy: alternative to the choices, such as ``", or pass a factory"``.

    Raises:
        ValueError: another value; lists the choices and suggests near ones.
    """
    names = list(choices)
    if value not in names:
        near = near_names(value, names)
        raise ValueError(f"{argument}={value!r} is unknown; choose one of {sorted(names)}{remedy}{near}")
    return str(value)


def near_names(name: Any, choices: Iterable[str], number: int = 3) -> str:
    """Suggest up to ``number`` of ``choices`` that are spelled like ``name``: ``" (near: a, b)"``, or ``""``."""
    near = difflib.get_close_matches(str(name), list(choices), n=number, cutoff=0.5)
    return f" (near: {', '.join(near)})" if near else ""


def ascending(argument: str, indices: Sequence[int], count: int, meaning: str) -> tuple[int, ...]:
    """Return one or more ascending positions below ``count`` as a tuple.

    Args:
        argument: name of the argument, for the message.
        indices: its value.
        count: number of positions; they count from 0.
        meaning: what the positions are of, for the message, such as ``"among the 12 blocks (0..11)"``.

    Raises:
        ValueError: no positions, positions out of order, or positions out of range.
    """
    chosen = tuple(int(index) for index in indices)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"{argument}={list(chosen)} must be ascending positions {meaning}")
    return chosen
