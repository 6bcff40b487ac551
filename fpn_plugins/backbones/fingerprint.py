"""Hash what a network computes: its classes with their packages' versions, its settings, its parameters and buffers."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
# attributes of modules that do not change the maps, beside hooks: state of a training, and mmengine's initialization
_IGNORED = {"training", "feature_cache", "init_cfg", "_is_init", "_params_init_info"}


def fingerprint(network: nn.Module) -> str:
    """Hash a network; equal networks have equal hashes in every process, on every device.

    Classes are hashed by their names and by the ``__version__`` of their package, not by their code; functions that are
    attributes, by their names, code, defaults and closures.
    """
    digest = _Digest()
    for package in sorted({type(module).__module__.partition(".")[0] for module in network.modules()} | {"torch"}):
        digest.add((package, getattr(sys.modules.get(package), "__version__", None)))
    digest.add(network)
    return digest.hash.hexdigest()


def memory_of(x: Tensor) -> Any:
    """Return the bytes of a contiguous tensor on the CPU, without a copy; the tensor must outlive them."""
    return (ctypes.c_char * (x.numel() * x.element_size())).from_address(x.data_ptr())


class _Digest:
    """Hash of nested values; modules, tensors and objects that come again are hashed by their number."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self._numbers: dict[int, tuple[int, Any]] = {}  # holding an object keeps its id taken
        self._open: list[Any] = []

    def add(self, value: Any) -> None:
        """Add a value; of a kind that is not known and cannot be copied, only its class."""
        if isinstance(value, _ATOMS):
            self._text(value)
        elif isinstance(value, type):
            self._text(f"{value.__module__}.{value.__qualname__}")
        elif isinstance(value, (Mapping, Set, tuple, list)):
            self._add_container(value)
        elif id(value) in self._numbers:
            self._text(f"again {self._numbers[id(value)][0]}")
        else:
            self._numbers[id(value)] = len(self._numbers), value
            self._add_object(value)

    def _text(self, value: object) -> None:
        text = repr(value).encode()
        self.hash.update(b"%d:" % len(text) + text)

    def _add_container(self, value: Any) -> None:
        if any(value is other for other in self._open):
            return
        self._open.append(value)
        self._text(f"{type(value).__qualname__} {len(value)}")
        entries = sorted(value, key=repr) if isinstance(value, Set) else value
        for entry in entries.items() if isinstance(entries, Mapping) else entries:
            for part in entry if isinstance(entries, Mapping) else (entry,):
                self.add(part)
        self._open.pop()

    def _add_object(self, value: Any) -> None:
        self._text(f"{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(value, Tensor):
            self._text((value.dtype, tuple(value.shape)))
            if not value.is_meta:
                content = value.detach().to("cpu").contiguous()
                self.hash.update(memory_of(content))
            return
        for name, part in _parts(value):
            self._text(name)
            self.add(part)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object consists of; nothing for objects that cannot be copied, such as locks."""
    if isinstance(value, FunctionType):
        yield from (("name", f"{value.__module__}.{value.__qualname__}"), ("code", _code(value.__code__)))
        yield from (("defaults", value.__defaults__), ("keywords", value.__kwdefaults__))
        yield from (("closure", part) for cell in value.__closure__ or () for part in _contents(cell))
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, nn.Module):
        # the forward of a backbone with a cache is that of the cache
        ignored = _IGNORED | ({"forward"} if getattr(value, "feature_cache", None) is not None else set())
        yield from ((key, part) for key, part in vars(value).items() if key not in ignored and "hook" not in key)
    elif is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(getattr(value, "__qualname__", None), str):  # functions and methods of C
        yield from (("name", value.__qualname__), ("self", getattr(value, "__self__", None)))
    elif not isinstance(value, ModuleType):
        known = type(value).__module__.partition(".")[0] not in sys.stdlib_module_names and hasattr(value, "__dict__")
        yield from value.__dict__.items() if known else _copied(value)


def _code(code: CodeType) -> tuple[Any, ...]:
    """Return what a function does: instructions, names and constants, also of the functions inside."""
    constants = [_code(constant) if isinstance(constant, CodeType) else constant for constant in code.co_consts]
    return code.co_code, code.co_names, constants


def _contents(cell: CellType) -> tuple[Any, ...]:
    """Return the value of a function's variable in the function around it, if it has one yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _copied(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a copy of an object of Python's or C's is made of: arrays, fractions, namespaces."""
    with suppress(Exception):  # any class has an error of its own for what cannot be copied
        yield "copied", value.__reduce_ex__(2)
