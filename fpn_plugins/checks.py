"""Check arguments: each function returns the checked value, or raises an error that states what was expected.

``argument`` is the argument's name, for the message, and ``value`` its value. Integers are those of Python, of NumPy
and of PyTorch's sizes; a value that is not finite is no number.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from os.path import commonprefix
from typing import Any

_LONGEST = 100  # characters of a value in a message


def shown(value: Any) -> str:
    """Return the text of a value for a message: one line, cut off if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's, by either of its names


def integer(argument: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return an integer in a range.

    Raises:
        TypeError: not an integer (``True``, ``2.0`` and ``"2"`` are not).
        ValueError: an integer outside ``minimum .. maximum``.
    """
    try:
        if _is_bool(value):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        remedy = "; leave out the quotes" if isinstance(value, str) and value.lstrip("-").isdigit() else ""
        raise TypeError(f"{argument}={shown(value)} must be an integer{remedy}") from None
    _check_range(argument, number, minimum, maximum)
    return number


def positive_int(argument: str, value: Any) -> int:
    """Return an integer of at least 1; errors are those of `integer`."""
    return integer(argument, value, 1)


def positive_ints(**values: Any) -> None:
    """Check several arguments, given by name, with `positive_int`."""
    for argument, value in values.items():
        positive_int(argument, value)


def number(argument: str, value: Any, minimum: float | None = None, maximum: float | None = None) -> float:
    """Return a finite number in a range.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinity, or a number outside ``minimum .. maximum``.
    """
    if _is_bool(value) or not isinstance(value, Real):
        raise TypeError(f"{argument}={shown(value)} must be a number")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{argument}={value} must be a finite number")
    _check_range(argument, value, minimum, maximum)
    return found


def _check_range(argument: str, value: Any, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and value < minimum:
        raise ValueError(f"{argument}={value} must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{argument}={value} must be at most {maximum}")


def positive_number(argument: str, value: Any) -> float:
    """Return a finite number above 0; errors are those of `number`."""
    found = number(argument, value)
    if found <= 0:
        raise ValueError(f"{argument}={value} must be above 0")
    return found


def probability(argument: str, value: Any) -> float:
    """Return a probability in ``[0, 1)``.

    Raises:
        TypeError: not a number.
        ValueError: NaN, or a value outside this range.
    """
    found = number(argument, value)
    if not 0 <= found < 1:
        raise ValueError(f"{argument}={value} must be at least 0 and below 1")
    return found


def boolean(argument: str, value: Any) -> bool:
    """Return a truth value; 0 and 1 are taken, texts such as ``"false"`` are not.

    Raises:
        TypeError: another value.
    """
    if not (_is_bool(value) or isinstance(value, int) and value in (0, 1)):
        remedy = "; leave out the quotes" if isinstance(value, str) else ""
        raise TypeError(f"{argument}={shown(value)} must be True or False{remedy}")
    return bool(value)


def booleans(**values: Any) -> None:
    """Check several arguments, given by name, with `boolean`."""
    for argument, value in values.items():
        boolean(argument, value)


def text(argument: str, value: Any, example: str) -> str:
    """Return a text; ``TypeError`` with an ``example`` for another value."""
    if not isinstance(value, str):
        raise TypeError(f"{argument}={shown(value)} must be a name, such as {example!r}")
    return value


def file_name(argument: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` is a text that is not empty or a path, or ``None``."""
    if value == "" or value is not None and not isinstance(value, str) and not hasattr(value, "__fspath__"):
        raise TypeError(f"{argument}={shown(value)} must be the path of a file, or None")


def mapping(argument: str, value: Any, example: str) -> Mapping[str, Any]:
    """Return a mapping; ``TypeError`` with an ``example`` for another value."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}={shown(value)} must be a mapping, such as {example}")
    return value


def sequence(argument: str, value: Any, entries: str, ordered: bool = True) -> tuple[Any, ...]:
    """Return the entries of a sequence; ``entries`` says what they are, such as ``"integers"``.

    Raises:
        TypeError: a text, a mapping, a set (unless not ``ordered``), or something without entries.
    """
    refused = (str, bytes, Mapping, Set) if ordered else (str, bytes, Mapping)
    if not isinstance(value, refused):
        try:
            return tuple(value)
        except TypeError:  # nothing to iterate over, such as a number or a tensor without dimensions
            pass
    raise TypeError(f"{argument}={shown(value)} must be a sequence of {entries}, written in brackets")


def integers(
    argument: str, value: Any, minimum: int | None = None, length: int | None = None, ordered: bool = True
) -> tuple[int, ...]:
    """Return a sequence's integers, each of at least ``minimum``; ``length`` is their number if it is fixed.

    Raises:
        TypeError: not a sequence of integers.
        ValueError: an integer below ``minimum``, or another number of entries.
    """
    entries = sequence(argument, value, "integers", ordered)
    try:
        found = tuple(integer(argument, entry) for entry in entries)
    except TypeError:
        raise TypeError(f"{argument}={shown(list(entries))} must be a sequence of integers") from None
    if minimum is not None and any(entry < minimum for entry in found):
        raise ValueError(f"{argument}={shown(list(found))} must be integers of at least {minimum}")
    if length is not None and len(found) != length:
        raise ValueError(f"{argument}={shown(list(found))} must have {length} entries")
    return found


def numbers(argument: str, value: Any) -> tuple[float, ...]:
    """Return a sequence of finite numbers.

    Raises:
        TypeError: not a sequence of numbers.
        ValueError: NaN or infinity.
    """
    return tuple(number(argument, entry) for entry in sequence(argument, value, "numbers"))


def divisor(argument: str, value: Any, total: int, meaning: str) -> int:
    """Return ``value`` if it divides ``total``; ``meaning`` says what ``total`` counts.

    Raises:
        TypeError: not an integer.
        ValueError: a value below 1, or one that does not divide ``total``.
    """
    found = integer(argument, value)
    if found < 1 or total % found:
        raise ValueError(f"{argument}={found} must divide the {total} {meaning}")
    return found


def one_of(argument: str, value: Any, choices: Iterable[str], remedy: str = "") -> str:
    """Return ``value`` if it is one of ``choices``; ``remedy`` is an alternative, such as ``", or pass a factory"``.

    Raises:
        ValueError: another value; the message lists the choices and suggests similar ones.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        near = near_names(value, names) if isinstance(value, str) else ""
        raise ValueError(f"{argument}={shown(value)} is unknown; choose one of {sorted(names)}{remedy}{near}")
    return value


def name_or_factory(argument: str, value: Any, choices: Iterable[str], remedy: str) -> None:
    """Raise an error unless ``value`` is ``None``, ``""``, one of ``choices``, or a factory.

    Raises:
        ValueError: an unknown name; see `one_of`.
        TypeError: neither a name nor callable, or a module that is built already.
    """
    if value is None or value == "":
        return
    if isinstance(value, str):
        one_of(argument, value, choices, remedy)
    elif not callable(value) or hasattr(value, "forward") and not isinstance(value, type):
        built = "; pass its class, or functools.partial of it" if callable(value) else ""
        raise TypeError(
            f"{argument}={shown(value)} must be one of {sorted(choices)}, a factory such as a class, or None{built}"
        )


def near_names(name: Any, choices: Iterable[str], number: int = 3) -> str:
    """Suggest the ``number`` nearest choices, those that begin like ``name`` first: ``" (near: a, b)"``, or ``""``."""
    near = difflib.get_close_matches(str(name), list(choices), n=number, cutoff=0.5)
    near.sort(key=lambda choice: -len(commonprefix([choice, str(name)])))
    return f" (near: {', '.join(near)})" if near else ""


def ascending(argument: str, indices: Any, count: int, meaning: str) -> tuple[int, ...]:
    """Return ``indices`` as a tuple if they are ascending positions below ``count``.

    ``meaning`` completes the message "must be ascending positions ...", for example "among the 12 blocks (0..11)".

    Raises:
        TypeError: not a sequence of integers.
        ValueError: no positions, positions out of order, or positions out of range.
    """
    chosen = integers(argument, indices, ordered=False)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"{argument}={list(chosen)} must be ascending positions {meaning}")
    return chosen
