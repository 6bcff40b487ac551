"""Unpickle checkpoints with a fixed table of harmless functions; nothing that a file names is imported or called.

`read_arrays` reads Detectron2's ``.pkl``; `fpn_plugins.weights.archives` checks files of ``torch.save``.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, ClassVar

import torch

from .arrays import FROMBUFFER, MULTIARRAY, PickledArray, PickledDtype, array_table, number_of

# several names may share a tensor's memory (tied weights); all together at most so many times the file's size
MAX_SHARED = 16
_SCALARS = (str, bytes, int, float, type(None))
_STORAGES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped", "QInt8", "QUInt8"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
# globals in mmengine's log of a training run, and NumPy's scalars beside weights
DISCARDED = {
    *("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr", "builtins.bytes"),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Int64", "Int32")),
    *(f"{module}.{name}" for module in MULTIARRAY for name in ("_reconstruct", "scalar")),
    *FROMBUFFER,
}
# remedies for tensors that PyTorch itself would read
_REMEDIES = {
    "sparse": "sparse tensors are not read; store tensor.to_dense()",
    "qtensor": "quantized tensors are not read; store tensor.dequantize()",
    "meta_tensor": "tensors on the meta device have no values; store the model's weights",
}


class Discarded:
    """Placeholder for an object stored beside the weights, whose contents are discarded."""

    def __init__(self, *unused: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class TableUnpickler(pickle._Unpickler):  # Python's: C's allocates memory for any index that a file names
    """Unpickler of a file of ``size`` bytes that resolves every global by a table, and tensors to placeholders.

    Raises:
        UnpicklingError: a global that the table lacks, or content that would use unbounded memory.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], size: int, records: Mapping[str, int] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.size, self.records, self.copied = size, records, 0
        self.stored, self.storages, self.used = 0, set[str](), set[str]()
        kinds: dict[str, Callable[..., Any]] = {"collections.Counter": Counter, "torch.Size": tuple}
        kinds |= {"collections.OrderedDict": OrderedDict, "builtins.set": set}
        self.table: dict[str, Callable[..., Any]] = {
            **{name: partial(self._collect, kind) for name, kind in kinds.items()},
            **dict.fromkeys([*DISCARDED, "torch.device", "torch._utils._rebuild_parameter"], Discarded),
            **{f"torch._utils._rebuild_tensor{version}": self._tensor for version in ("", "_v2", "_v3")},
            "_codecs.encode": _latin1,
        }

    def load(self) -> Any:
        """Read the next object of the file."""
        try:
            return super().load()
        except KeyError as error:
            raise UnpicklingError(f"not a pickle, because it has the unknown opcode {error}") from error

    def find_class(self, module: str, name: str) -> Any:
        """Return the table's function for a global, or the element size of a class of storages."""
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        self.used.add(full)
        if module in ("torch", "torch.storage") and name.removesuffix("Storage") in _STORAGES:
            return _STORAGES[name.removesuffix("Storage")]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return Discarded()
        if full not in self.table:
            reason = next(
                (text for part, text in _REMEDIES.items() if part in name), "only weights and numbers are read"
            )
            raise UnpicklingError(f"refused {full:.80}: {reason}")
        return self.table[full]

    def persistent_load(self, pid: Any) -> tuple[int, int]:
        """Return the number of elements of a storage and their size; its bytes have to be in the file."""
        _, itemsize, key, _, number = pid[:5]
        if not (isinstance(key, str) and isinstance(number, int) and isinstance(itemsize, int)):
            raise UnpicklingError("refused a storage without a name and a size")
        available = self.size if self.records is None else self.records.get(key, -1)
        self.stored += 0 if key in self.storages else number * itemsize
        self.storages.add(key)
        if not 0 <= number * itemsize <= available or self.stored > self.size:
            raise UnpicklingError(f"storage {key!r:.20} of {number * itemsize} bytes is not in the file")
        return int(number), itemsize

    def _tensor(
        self, storage: tuple[int, int], offset: int, size: Sequence[int], stride: Sequence[int], *unused: Any
    ) -> Discarded:
        number, _, _ = number_of(size), number_of(stride), number_of((offset,))
        if number > storage[0]:
            raise UnpicklingError(
                f"tensor of shape {tuple(size)} exceeds its storage of {storage[0]} elements; store tensor.clone()"
            )
        self.count(number * storage[1])
        return Discarded()

    def _collect(self, kind: Callable[..., Any], items: Any = ()) -> Any:
        self.count(len(items))
        _check_keys([item[0] for item in items] if kind is OrderedDict and isinstance(items, list) else items)
        return kind(items)

    def count(self, number: int) -> None:
        """Count bytes or items that the file has copied, and refuse more than several times the file's size."""
        self.copied += number
        if self.copied > MAX_SHARED * self.size + 4096:
            raise UnpicklingError(f"objects are more than {MAX_SHARED} times as large as the file")

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (PickledArray, PickledDtype, Discarded)):
            target.__setstate__(state)
            self.count(target.tensor.nbytes if isinstance(target, PickledArray) else 0)
        elif not (isinstance(target, OrderedDict) and isinstance(state, dict) and set(state) <= {"_metadata"}):
            raise UnpicklingError(f"refused the state of a {type(target).__name__}: only weights are read")

    def _set_items(self) -> None:
        self._store(self.pop_mark())

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._store([self.stack.pop(), value])

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._store(items)

    def _refuse_set(self) -> None:
        raise UnpicklingError("refused a set: only dicts, lists, strings and numbers are read")

    def _store(self, items: list[Any]) -> None:
        _check_keys(items[::2])
        if not isinstance(self.stack[-1], dict):
            raise UnpicklingError(f"refused items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    dispatch: ClassVar[Any] = {
        **getattr(pickle._Unpickler, "dispatch"),  # noqa: B009  (unknown to type checkers)
        **{pickle.BUILD[0]: _build, pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items},
        **{pickle.DICT[0]: _dict, pickle.ADDITEMS[0]: _refuse_set, pickle.FROZENSET[0]: _refuse_set},
    }


def _check_keys(keys: Any) -> None:
    for key in keys:
        if not isinstance(key, _SCALARS):  # hashing nested tuples could overflow the stack
            raise UnpicklingError(f"refused a key of type {type(key).__name__}: only strings and numbers")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnpicklingError(f"refused _codecs.encode with {encoding!r:.20}: only latin1")
    return text.encode("latin1")


def read_arrays(path: Path) -> object:
    """Read a pickled dict of arrays and numbers; arrays are returned as `PickledArray`."""
    data = path.read_bytes()
    reader = TableUnpickler(io.BytesIO(data), len(data))
    reader.table |= array_table(reader.count)
    return reader.load()
