"""The files that are published: weights and the names of the classes, and nothing of the training."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import write_atomically
from ..weights.checkpoint import read_checkpoint

SUFFIXES = (".pth", ".safetensors")
METADATA = "detector"
# where each toolbox looks for the state dict
CONTAINERS = {"mmdet": "state_dict", "detectron2": "model"}


def serialize(weights: Mapping[str, Tensor], toolbox: str, classes: Sequence[str], suffix: str) -> bytes:
    """The content of a published file; equal weights give equal bytes.

    Args:
        weights: state dict of a detector.
        toolbox: ``"mmdet"`` or ``"detectron2"``, whose names those are.
        classes: names of the classes, which mmdet shows; may be empty.
        suffix: ``".pth"``, which both toolboxes read, or ``".safetensors"``.

    Raises:
        ValueError: another suffix.
    """
    if suffix == ".safetensors":
        from safetensors.torch import save

        # one entry: the library writes several in an order of its own, and the hash would depend on it
        return save(dict(weights), {METADATA: json.dumps({"toolbox": toolbox, "classes": list(classes)})})
    if suffix != ".pth":
        raise ValueError(f"suffix={suffix!r}: published files are {SUFFIXES}")
    # into a buffer: in a file torch would write the file's name, and the hash would depend on it
    buffer = io.BytesIO()
    meta = {"dataset_meta": {"classes": tuple(classes)}} if classes else {}
    torch.save({CONTAINERS[toolbox]: dict(weights), "meta": meta}, buffer)
    return buffer.getvalue()


def as_pth(path: Path, toolbox: str, folder: Path) -> Path:
    """A published ``.safetensors`` as the ``.pth`` that the toolboxes read; made in ``folder`` unless it is there."""
    result = folder / f"{path.stem}.pth"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(result) as temporary:
            temporary.write_bytes(serialize(read_checkpoint(path), toolbox, _classes(path), ".pth"))
    return result


def _classes(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata: dict[str, Any] = file.metadata() or {}
    return json.loads(metadata.get(METADATA, "{}")).get("classes", [])
