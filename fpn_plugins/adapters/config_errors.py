"""Turn errors about a user's config, which the toolboxes raise in many kinds, into a ``ValueError`` that names it.

`reading` covers the execution of the file and its overrides, where any error is the user's. `trying` covers what the
values make the toolboxes do: only errors that wrong values cause are turned, and others keep their traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..checks import near_names

_LENGTH = 600  # characters of an error that are shown


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_LENGTH]}{' ...' if len(text) > _LENGTH else ''}"


@contextmanager
def reading(config: str, overrides: Iterable[str] = ()) -> Iterator[None]:
    """Turn any error into a ``ValueError`` (a missing file: ``FileNotFoundError``) unless it names the config."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (ValueError, OSError)) and str(error).startswith("config "):
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        changed = " ".join(overrides)
        with_them = f" with {changed}" if changed else ""
        raise kind(f"config {config!r} cannot be read{with_them}: {_described(error)}") from error


@contextmanager
def trying(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn errors that wrong values cause in the toolboxes into a ``ValueError``.

    Args:
        what: source of the values, for the message, such as ``"config 'x.py'"``.
        more: further errors; PyTorch reports shapes that do not fit as ``RuntimeError``.
    """
    kinds: tuple[type[Exception], ...] = (TypeError, AssertionError, *more)
    try:
        yield
    except kinds as error:
        if isinstance(error, OSError):  # a download, whose message names the address
            raise
        raise ValueError(f"{what} does not work: {_described(error)}") from error
    except KeyError as error:
        if "registry" not in str(error):  # both toolboxes report an unknown type so
            raise
        raise ValueError(f"{what} does not work: {_described(error)}") from error


def split_overrides(options: Iterable[str], known: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Split overrides ``KEY=VALUE``, where ``KEY`` is a dotted path.

    Args:
        options: overrides.
        known: keys of the config; if there are any, the first part of each path must be one of them.

    Raises:
        ValueError: an override without ``=``, or an unknown key; suggests similar ones.
    """
    pairs = []
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals):
            raise ValueError(f"override {option!r} must be KEY=VALUE")
        first = key.split(".")[0]
        if known and first not in known:
            raise ValueError(f"override {option!r}: the config has no {first!r}{near_names(first, known)}")
        pairs.append((key, value))
    return pairs
