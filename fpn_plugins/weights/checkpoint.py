"""Reading and writing checkpoint files without running what is inside them."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files import write_atomically

# where the code bases keep the state dict inside the file
CONTAINERS = ("state_dict", "model", "model_state", "teacher", "student")

# all that a pickled dict of arrays (Detectron2's model zoo) needs; anything else in a `.pkl` is refused
_PICKLE_ALLOWED = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    # pickle protocol 5, Python's default from 3.14 on
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that knows NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        """Refuse every global that is not needed to rebuild an array."""
        if (module, name) not in _PICKLE_ALLOWED:
            raise pickle.UnpicklingError(f"refused {module}.{name}: a checkpoint may hold arrays and numbers only")
        return super().find_class(module, name)


def _read_pickle(data: bytes) -> object:
    return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


class _Ignored:
    """What stands in a training checkpoint beside the weights: its place is kept, its contents are thrown away."""

    def __init__(self, *unused: object) -> None:
        """Keep nothing."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


# mmengine's log of a training run; the arrays in it need no code of theirs
_IGNORED = (
    *("mmengine.logging.history_buffer.HistoryBuffer", "numpy.ndarray", "numpy.dtype"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Int64", "Int32")),
    "builtins.getattr",
)


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
            raise  # torch 2.4 cannot be given stand-ins
        needed = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        if not needed <= set(_IGNORED):
            raise
        with torch.serialization.safe_globals([(_Ignored, name) for name in needed]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _read_any(path: Path, trusted: bool) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".pkl":
        return pickle.loads(path.read_bytes(), encoding="latin1") if trusted else _read_pickle(path.read_bytes())
    return torch.load(path, map_location="cpu", weights_only=False) if trusted else _read_torch(path)


def read_checkpoint(path: str | os.PathLike[str], trusted: bool = False) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint file; nothing pickled in it is executed.

    Args:
        path: ``.safetensors``; ``.pkl`` as Detectron2's model zoo has it (arrays only); anything else is read by
            ``torch.load(weights_only=True)``. A dict of dicts is unwrapped at ``state_dict``, ``model`` or
            ``model_state``. What mmengine logs beside the weights is passed over unread.
        trusted: run whatever code is pickled in the file, as ``pickle`` does; only for files of your own.

    Returns:
        Names and tensors, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged or truncated file, a file that needs to execute code, or one without tensors.
    """
    return _tensors(_unwrap(read_content(path, trusted)), Path(path))


def read_content(path: str | os.PathLike[str], trusted: bool = False) -> object:
    """All that a file holds, as `read_checkpoint` reads it; raises the same, but takes files without tensors."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {os.fspath(path)!r} does not exist; it must be a local file, not an address"
        )
    try:
        return _read_any(path, trusted)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"  # an empty file's error has no text
        raise ValueError(
            f"cannot read checkpoint {str(path)!r} ({reason}). The file is "
            "damaged, or holds pickled objects other than tensors, which are not executed; re-save its state dict, or, "
            "if you made the file yourself, read it with trusted=True (--trusted)"
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
        raise ValueError(f"checkpoint {str(path)!r} holds no tensors (looked in it and under {', '.join(CONTAINERS)})")
    return tensors


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of a state dict under ``prefix`` (``"backbone.neck."``), without it.

    Raises:
        ValueError: there are none; names the prefixes that there are.
    """
    found = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    if not found:
        present = sorted({".".join(key.split(".")[:2]) for key in state_dict})
        raise ValueError(f"no keys under prefix={prefix!r}; the state dict has {present[:12]}")
    return found


def write_checkpoint(
    state_dict: Mapping[str, Tensor], path: str | os.PathLike[str], container: str = "state_dict"
) -> Path:
    """Write a state dict, whole or not at all: under a temporary name beside ``path``, renamed when complete.

    Args:
        state_dict: names and tensors.
        path: ``.safetensors``; ``.pkl`` (arrays, as Detectron2's model zoo has them); any other suffix is written by
            ``torch.save``.
        container: the key that holds the state dict in the latter two: ``"state_dict"`` for mmdet, ``"model"`` for
            Detectron2.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            # a copy each, because it takes no tensors that share memory
            save_file({key: value.detach().clone().contiguous() for key, value in state_dict.items()}, temporary)
        elif path.suffix == ".pkl":
            arrays = {key: value.numpy() for key, value in state_dict.items()}
            temporary.write_bytes(pickle.dumps({container: arrays, "__author__": "fpn_plugins"}, protocol=4))
        else:
            torch.save({container: dict(state_dict)}, temporary)
    return path
