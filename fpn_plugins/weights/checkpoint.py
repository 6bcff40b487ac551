"""Read and write checkpoint files without executing pickled code."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compat import load_weights
from ..extras import needed_for
from ..files import suffix_of, write_atomically
from ..moved import explain_moved_names
from .archives import check_torch
from .class_names import class_header, class_meta, classes_in_header, classes_of
from .prefixes import WRAPPERS, strip_wrappers
from .unpickling import DISCARDED, Discarded, PickledArray, read_arrays

__getattr__ = explain_moved_names(__name__)

# keys under which code bases store the state dict
CONTAINERS = ("state_dict", "model", "model_state", "teacher", "student")
# and averaged weights, for files that contain no others
AVERAGED = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "ema_state")


def _read_any(path: Path, rebuilt: Mapping[str, Any]) -> object:
    if suffix_of(path) == ".safetensors":
        with needed_for("files in safetensors format"):
            from safetensors.torch import load_file

        return load_file(path)
    if suffix_of(path) == ".pkl":
        return read_arrays(path)
    used, _ = check_torch(path, arrays=bool(rebuilt))
    return load_weights(path, {name: rebuilt.get(name, Discarded) for name in used & DISCARDED})


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint file, on the CPU; nothing pickled in it is executed.

    Args:
        path: ``.safetensors``; ``.pkl`` in the format of Detectron2's model zoo (arrays only); anything else is read by
            ``torch.load(weights_only=True)``. A dict of dicts is unwrapped at the keys in ``CONTAINERS``, or else in
            ``AVERAGED``. mmengine's log beside the weights is skipped.

    The keys are those of the model without wrappers: see `strip_wrappers`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, truncated or hostile, needs to execute code, or contains no tensors, tensors
            under keys that are not strings, or a tensor of nothing but NaN.
    """
    return strip_wrappers(_tensors(_unwrap(read_content(path), Path(path)), Path(path)))


class MissingCheckpointError(FileNotFoundError):
    """A checkpoint that a config or a user named does not exist."""


def read_content(path: str | os.PathLike[str], rebuilt: Mapping[str, Any] | None = None) -> object:
    """Read all of a file as `read_checkpoint` does; same errors, except that a file without tensors is accepted.

    Args:
        path: the file.
        rebuilt: functions that rebuild objects beside the weights, by the names of their globals; the objects are
            discarded by default.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingCheckpointError(
            f"checkpoint {os.fspath(path)!r} does not exist; it must be a local file, not an address"
        )
    try:
        return _read_any(path, rebuilt or {})
    except ImportError:  # of the library for this format
        raise
    except Exception as error:
        text = str(error).rpartition("WeightsUnpickler error: ")[2]  # PyTorch advises to execute the file before that
        reason = f"{type(error).__name__}: {text.partition(chr(10))[0]}"  # the error of an empty file has no text
        load = "pickle.load(open({!r}, 'rb'))" if suffix_of(path) == ".pkl" else "torch.load({!r}, weights_only=False)"
        raise ValueError(
            f"cannot read checkpoint {str(path)!r} ({reason}). The file is damaged, or it contains more than weights, "
            "which is not executed. Only if you trust its origin, save its weights (under 'state_dict' or 'model') "
            f"alone: torch.save({load.format(str(path))}['state_dict'], NEW)"
        ) from error


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the class names that a detector's checkpoint contains, or nothing if it contains none.

    The argument and errors are those of `read_checkpoint`. Names are where mmengine, mmdet 2 and `write_checkpoint`
    store them.
    """
    content = read_content(path)
    if suffix_of(path) != ".safetensors":
        return classes_of(content)
    with needed_for("files in safetensors format"):
        from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return classes_in_header(file.metadata())


def _unwrap(content: object, path: Path) -> object:
    depth = 0
    while isinstance(content, Mapping):
        names = (*CONTAINERS, *AVERAGED, *(("module",) if depth else ()))
        inner = next((content[key] for key in names if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        if depth == len(CONTAINERS):
            raise ValueError(f"checkpoint {str(path)!r} contains itself under {CONTAINERS}; save its state dict alone")
        content, depth = inner, depth + 1
    return content


def _is_nan(tensor: Tensor) -> bool:
    first = tensor[(0,) * tensor.dim()]
    return bool(first.float().isnan()) and bool(tensor.float().isnan().all())


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        tensor = getattr(value, "tensor", None) if isinstance(value, PickledArray) else value
        if not isinstance(tensor, Tensor):
            continue
        if not isinstance(key, str):
            raise ValueError(f"checkpoint {str(path)!r} has a tensor under the key {key!r:.40}, which is not a string")
        if tensor.numel() and tensor.is_floating_point() and _is_nan(tensor):
            raise ValueError(f"checkpoint {str(path)!r}: all of {key!r:.80} is NaN; use an earlier checkpoint")
        tensors[key] = tensor
    if not tensors:
        raise ValueError(
            f"checkpoint {str(path)!r} contains no tensors at the top level or under {', '.join(CONTAINERS)}"
        )
    return tensors


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the entries of a state dict under ``prefix`` (``"backbone.neck."``), and remove the prefix.

    Wrappers at the start of ``prefix`` (``"module.backbone."``) may be missing from the keys, since `read_checkpoint`
    removes them.

    Raises:
        ValueError: no such entries; lists the prefixes that exist.
    """
    found = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    wrapper, _, inner = prefix.partition(".")
    if not found and inner and wrapper in WRAPPERS:
        return strip_prefix(state_dict, inner)
    if not found:
        present = sorted({".".join(key.split(".")[:2]) for key in state_dict})
        raise ValueError(f"no keys under prefix={prefix!r}; the state dict has {present[:12]}")
    return found


def write_checkpoint(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    container: str = "state_dict",
    classes: Sequence[str] = (),
) -> Path:
    """Write a state dict atomically (see `write_atomically`) and return ``path``.

    Args:
        state_dict: names and tensors.
        path: ``.safetensors``; ``.pkl`` (arrays, as in Detectron2's model zoo); files with any other suffix are written
            by ``torch.save``. Missing folders are created.
        container: key of the state dict in the latter two formats: ``"state_dict"`` for mmdet, ``"model"`` for
            Detectron2.
        classes: class names of a detector, which `read_class_names` finds; mmdet shows them, Detectron2 ignores them.
    """
    path = Path(path)
    meta = {"meta": class_meta(classes)} if classes else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        if suffix_of(path) == ".safetensors":
            with needed_for("files in safetensors format"):
                from safetensors.torch import save

            # copies, because safetensors refuses tensors that share memory
            copies = {key: value.detach().clone().contiguous() for key, value in state_dict.items()}
            temporary.write_bytes(save(copies, class_header(classes) if classes else None))
        elif suffix_of(path) == ".pkl":
            arrays = {key: value.numpy() for key, value in state_dict.items()}
            temporary.write_bytes(pickle.dumps({container: arrays, "__author__": "fpn_plugins", **meta}, protocol=4))
        else:
            buffer = io.BytesIO()  # PyTorch's own file reports a full disk as a RuntimeError
            torch.save({container: dict(state_dict), **meta}, buffer)
            temporary.write_bytes(buffer.getbuffer())
    return path
