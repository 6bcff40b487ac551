"""Check the options of ``torch.compile``, and find out whether it works on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..checks import near_names, shown

_EXAMPLE = "True, False, or options of torch.compile such as {'mode': 'max-autotune-no-cudagraphs'}"
REMEDIES = {
    "cpu": "install a C++ compiler (apt install g++; on macOS xcode-select --install) and Python's headers "
    "(apt install python3-dev)",
    "cuda": "install Triton (pip install triton) and a C compiler (apt install gcc)",
}


def check_compile(argument: str, value: Any) -> dict[str, Any] | None:
    """Return the options of ``torch.compile`` that an argument ``compile`` asks for, or ``None`` for ``False``.

    Raises:
        TypeError: neither a bool nor a mapping, or an option that ``torch.compile`` does not have.
        ValueError: a value that ``torch.compile`` refuses.
    """
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}={shown(value)} must be {_EXAMPLE}")
    options: dict[str, Any] = _plain(value)
    known = [name for name in inspect.signature(torch.compile).parameters if name not in ("model", "disable")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"{argument}={options!r}: torch.compile has no option {unknown[0]!r}{near_names(unknown[0], known)}"
        )
    for name in ("fullgraph", "dynamic"):
        if not isinstance(options.get(name), (bool, type(None))):
            raise TypeError(f"{argument}={options!r}: {name} must be a bool")
    backend = options.get("backend", "inductor")
    if not isinstance(backend, str) and not callable(backend):
        raise TypeError(f"{argument}={options!r}: backend must be the name of one, or a function")
    refused = _refusal(options)
    if refused and not _refusal({}):  # without options, too, it is the installation that torch.compile refuses
        raise ValueError(f"{argument}={options!r}: torch.compile refuses it: {refused}")
    return options


def _plain(value: Any) -> Any:
    """Convert the mappings of a config to dicts."""
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


def _refusal(options: Mapping[str, Any]) -> str:
    try:
        torch.compile(_probe, **options)
    except Exception as error:  # of several kinds, depending on PyTorch's version
        return _summary(error)
    return ""


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1


@cache
def missing_compiler(device: str, backend: str) -> str:
    """Compile a tiny function; return the error, or ``""`` if that works. Takes seconds, once per process."""
    try:
        torch.compile(_probe, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # whatever is missing: a compiler, headers, Triton, support for the Python version
        return _summary(error)
    return ""


def _summary(error: Exception) -> str:
    """First lines of an error's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2]):.300}"
