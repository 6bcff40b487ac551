"""Read and write checkpoint files without executing pickled code."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files import write_atomically
from ..moved import explain_moved_names

__getattr__ = explain_moved_names(__name__)

# keys under which code bases store the state dict
CONTAINERS = ("state_dict", "model", "model_state", "teacher", "student")

# globals needed by a pickled dict of arrays (Detectron2's model zoo); anything else in a `.pkl` is refused
_ARRAY_GLOBALS = {
    *("collections.OrderedDict", "_codecs.encode", "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    # pickle protocol 5, Python's default from 3.14 on
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Return a global needed to rebuild a NumPy array; refuse any other."""
        if f"{module}.{name}" not in _ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"refused {module}.{name}: a checkpoint may contain only arrays and numbers")
        return super().find_class(module, name)


class _Ignored:
    """Placeholder for an object stored beside the weights, whose contents are discarded."""

    def __init__(self, *unused: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# globals in mmengine's log of a training run
_IGNORED = {
    *_ARRAY_GLOBALS,
    *("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr"),
    *(f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Int64", "Int32")),
}


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
            raise  # torch 2.4 accepts no stand-ins
        needed = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        if not needed <= _IGNORED:
            raise
        with torch.serialization.safe_globals([(_Ignored, name) for name in needed]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _read_any(path: Path, trusted: bool) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".pkl":
        unpickler = pickle.Unpickler if trusted else _ArrayUnpickler
        return unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    return torch.load(path, map_location="cpu", weights_only=False) if trusted else _read_torch(path)


def read_checkpoint(path: str | os.PathLike[str], trusted: bool = False) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint file, on the CPU; nothing pickled in it is executed.

    Args:
        path: ``.safetensors``; ``.pkl`` in the format of Detectron2's model zoo (arrays only); anything else is read by
            ``torch.load(weights_only=True)``. A dict of dicts is unwrapped at the keys in ``CONTAINERS``. mmengine's
            log beside the weights is skipped.
        trusted: allow the file to execute the code pickled in it; only for files of your own.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or truncated, needs to execute code, or contains no tensors.
    """
    return _tensors(_unwrap(read_content(path, trusted)), Path(path))


def read_content(path: str | os.PathLike[str], trusted: bool = False) -> object:
    """Read all of a file as `read_checkpoint` does; same errors, except that a file without tensors is accepted."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {os.fspath(path)!r} does not exist; it must be a local file, not an address"
        )
    try:
        return _read_any(path, trusted)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"  # the error of an empty file has no text
        raise ValueError(
            f"cannot read checkpoint {str(path)!r} ({reason}). The file is damaged, or it contains pickled objects "
            "other than tensors, which are not executed; save its state dict again, or, if you made the file yourself, "
            "read it with trusted=True (--trusted)"
        ) from error


def _unwrap(content: object) -> object:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            tensors[key] = value
        elif hasattr(value, "__array_interface__") and not value.dtype.hasobject:
            tensors[key] = torch.tensor(value)  # a copy: unpickled arrays may be read-only
    if not tensors:
        raise ValueError(
            f"checkpoint {str(path)!r} contains no tensors at the top level or under {', '.join(CONTAINERS)}"
        )
    return tensors


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the entries of a state dict under ``prefix`` (``"backbone.neck."``), and remove the prefix.

    Raises:
        ValueError: no such entries; lists the prefixes that exist.
    """
    found = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    if not found:
        present = sorted({".".join(key.split(".")[:2]) for key in state_dict})
        raise ValueError(f"no keys under prefix={prefix!r}; the state dict has {present[:12]}")
    return found


def write_checkpoint(
    state_dict: Mapping[str, Tensor], path: str | os.PathLike[str], container: str = "state_dict"
) -> Path:
    """Write a state dict atomically (see `write_atomically`) and return ``path``.

    Args:
        state_dict: names and tensors.
        path: ``.safetensors``; ``.pkl`` (arrays, as in Detectron2's model zoo); files with any other suffix are written
            by ``torch.save``. Missing folders are created.
        container: key of the state dict in the latter two formats: ``"state_dict"`` for mmdet, ``"model"`` for
            Detectron2.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            # copies, because safetensors refuses tensors that share memory
            save_file({key: value.detach().clone().contiguous() for key, value in state_dict.items()}, temporary)
        elif path.suffix == ".pkl":
            arrays = {key: value.numpy() for key, value in state_dict.items()}
            temporary.write_bytes(pickle.dumps({container: arrays, "__author__": "fpn_plugins"}, protocol=4))
        else:
            torch.save({container: dict(state_dict)}, temporary)
    return path
