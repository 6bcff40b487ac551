"""Functions whose name, arguments or abilities differ between PyTorch 2.1 and today; nothing else asks for versions."""

from __future__ import annotations

import _compat_pickle
import os
import pickle
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

# globals of files that hold nothing but weights; classes of storages and dtypes of `torch` come on top
_WEIGHTS = {
    "collections": ("OrderedDict", "Counter"),
    "builtins": ("set",),
    "_codecs": ("encode",),
    "torch": ("Size", "device"),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"),
}

if hasattr(torch.compiler, "is_compiling"):

    def compiling() -> bool:
        """Return whether ``torch.compile`` or ``torch.export`` is recording the computation."""
        return torch.compiler.is_compiling()

else:  # PyTorch 2.1

    def compiling() -> bool:
        """Return whether ``torch.compile`` or ``torch.export`` is recording the computation."""
        return torch._utils.is_compiling()


def exporting() -> bool:
    """Return whether ``torch.export`` is recording the computation; ``torch.compile`` too on PyTorch below 2.7.

    ``torch.compiler.is_exporting()`` is always true in what ``torch.compile`` records; the flag that it reads is not.
    """
    return getattr(torch.compiler, "_is_exporting_flag", compiling())


if hasattr(torch.compiler, "is_dynamo_compiling"):

    def run_by_export() -> bool:
        """Return whether ``torch.export`` is running the computation to record it (with ``strict=False``)."""
        return compiling() and not torch.compiler.is_dynamo_compiling()

else:  # PyTorch 2.1

    def run_by_export() -> bool:
        """Return whether ``torch.export`` or ``torch.compile`` is recording the computation."""
        return compiling()


def dynamic_dimension() -> Any:
    """Return ``torch.export.Dim.DYNAMIC``, the mark of a dimension whose size stays open.

    Raises:
        ImportError: PyTorch below 2.6, which does not have it.
    """
    dim = getattr(torch.export, "Dim", None)
    if not hasattr(dim, "DYNAMIC"):
        raise ImportError(
            f"exporting a detector needs PyTorch 2.6 or newer, this is {torch.__version__}; upgrade torch"
        )
    return dim.DYNAMIC  # type: ignore[union-attr]


@contextmanager
def without_leftover_hooks() -> Iterator[None]:
    """Remove the hook on new buffers that ``torch.export`` (2.11) leaves in the process when it fails.

    Compiling a module that assigns a buffer, such as the batch counter of batch norm, fails while it is there.
    """
    hooks: dict[int, Any] = getattr(torch.nn.modules.module, "_global_buffer_registration_hooks", {})
    before = set(hooks)
    try:
        yield
    finally:
        for key in set(hooks) - before:
            del hooks[key]


def compiled_graphs() -> int:
    """Return the number of graphs that ``torch.compile`` has recorded in this process since its last reset."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def uncompiled() -> AbstractContextManager[object]:
    """Run compiled modules uncompiled inside, so that hooks see every module; before PyTorch 2.6, do nothing."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if set_stance is None else set_stance("force_eager")


def find_fully_shard() -> Callable[..., Any]:
    """Return PyTorch's ``fully_shard``, which divides a module's parameters between processes.

    Raises:
        ImportError: PyTorch is older than 2.6.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ImportError(
            f"sharding needs fully_shard of PyTorch 2.6 or later, and this is {torch.__version__}: update PyTorch, or "
            "train without sharding"
        ) from error
    return fully_shard


def autocast_enabled(device: str) -> bool:
    """Return whether autocast is enabled on a type of device; False where the device has no autocast."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # PyTorch below 2.4: one function per type of device
        return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()
    except RuntimeError:
        return False


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return the type that autocast computes in on a type of device; ``None`` where it is disabled."""
    if not autocast_enabled(device):
        return None
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device)
    return torch.get_autocast_cpu_dtype() if device == "cpu" else torch.get_autocast_gpu_dtype()  # below 2.4


def leave_memory_unfilled() -> None:
    """Keep deterministic algorithms from filling uninitialized memory, which they do since PyTorch 2.2."""
    deterministic: Any = getattr(torch.utils, "deterministic", None)
    if deterministic is not None:
        deterministic.fill_uninitialized_memory = False


def load_weights(path: str | os.PathLike[str], more: Mapping[str, Any]) -> Any:
    """Read a file of ``torch.save`` on the CPU, executing nothing that is pickled in it.

    Args:
        path: the file, whose content `fpn_plugins.weights.archives.check_torch` accepts.
        more: functions and classes by the names of the globals that the file names beside those of weights.

    Raises:
        pickle.UnpicklingError: the file names another global, or is a TorchScript archive.
    """
    if not more:
        return torch.load(path, map_location="cpu", weights_only=True)
    if hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # then safe_globals takes names
        with torch.serialization.safe_globals([(value, name) for name, value in more.items()]):
            return torch.load(path, map_location="cpu", weights_only=True)

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):  # torch.load would run its code
                raise pickle.UnpicklingError("refused a TorchScript archive: only weights and numbers are read")

    class Unpickler(pickle._Unpickler):  # Python's, like that of the check
        def find_class(self, module: str, name: str) -> Any:
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)  # names of Python 2, which torch.save writes
            if f"{module}.{name}" in more:
                return more[f"{module}.{name}"]
            storage = module in ("torch", "torch.storage") and name.isidentifier() and name.endswith("Storage")
            dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
            if storage or dtype or name in _WEIGHTS.get(module, ()):
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f"refused {module}.{name:.80}: only weights and numbers are read")

    module: Any = types.ModuleType("restricted_pickle")
    module.Unpickler, module.load = Unpickler, lambda file, **options: Unpickler(file, **options).load()
    # PyTorch takes no pickle_module with weights_only=True; the restricted unpickler above is what refuses
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
