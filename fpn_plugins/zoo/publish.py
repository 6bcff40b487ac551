"""Reduce a training checkpoint to publishable files, which contain only weights and class names."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conversion.tables import toolbox_of_keys
from ..extras import needed_for
from ..files import write_atomically
from ..weights.checkpoint import CONTAINERS, read_checkpoint, read_class_names, read_content
from ..weights.class_names import class_header, class_meta

SUFFIXES = (".pth", ".safetensors")
# key under which each toolbox looks for the state dict
CONTAINER_OF = {"mmdet": "state_dict", "detectron2": "model"}
# averaged weights in training checkpoints: mmengine's hook has already swapped them with the state dict; trainers on
# Detectron2 (d2go, detrex) store them next to the model
SWAPPED_AVERAGE, SEPARATE_AVERAGE = "ema_state_dict", "ema_state"
DISTRIBUTED = "module."

# results in the files of tools/demo.py and tools/compare_toolboxes.py (from 0 to 1), and of the toolboxes
_KINDS = {"bbox": "box AP", "segm": "mask AP"}
_FLAT = {
    "coco/bbox_mAP": ("box AP", 100),
    "coco/segm_mAP": ("mask AP", 100),
    "coco_panoptic/PQ": ("PQ", 1),
    "bbox/AP": ("box AP", 1),
    "segm/AP": ("mask AP", 1),
    "panoptic_seg/PQ": ("PQ", 1),
}


@dataclass(frozen=True)
class Trained:
    """Publishable part of a training checkpoint.

    Attributes:
        weights: state dict of the detector, averaged if the training averaged weights.
        toolbox: toolbox that the keys belong to.
        classes: class names, if the checkpoint has them.
        average: key of the checkpoint that marks ``weights`` as averages.
        dropped: keys of the checkpoint that are not published.
    """

    weights: dict[str, Tensor]
    toolbox: str
    classes: tuple[str, ...] = ()
    average: str | None = None
    dropped: tuple[str, ...] = ()


def clean_checkpoint(path: str | os.PathLike[str]) -> Trained:
    """Read the weights of either toolbox's training checkpoint, without optimizer, schedule and log.

    The argument and errors are those of `read_checkpoint`.

    Raises:
        ValueError: also for a checkpoint that is not a detector's.
    """
    weights = read_checkpoint(path)
    content = read_content(path)
    rest = dict(content) if isinstance(content, Mapping) else {}
    container = next((key for key in CONTAINERS if isinstance(rest.get(key), Mapping)), None)
    if container is None:
        rest = {}  # a bare state dict
    rest.pop(container, None)
    average = next((key for key in (SWAPPED_AVERAGE, SEPARATE_AVERAGE) if isinstance(rest.get(key), Mapping)), None)
    weights = _without_prefix(weights)
    if average == SEPARATE_AVERAGE:
        weights = _averaged(weights, rest[average], Path(path))
    # copies, because tensors that share memory or are parts of larger ones would be stored with all of it
    weights = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    dropped = tuple(str(key) for key in rest if key != "meta")
    return Trained(weights, toolbox_of_keys(weights), read_class_names(path), average, dropped)


def serialize(weights: Mapping[str, Tensor], toolbox: str, classes: Sequence[str], suffix: str) -> bytes:
    """Serialize a published file; equal weights give equal bytes.

    Args:
        weights: state dict of a detector.
        toolbox: ``"mmdet"`` or ``"detectron2"``, which the keys belong to.
        classes: class names, which mmdet displays; may be empty.
        suffix: ``".pth"``, which both toolboxes read, or ``".safetensors"``.

    Raises:
        ValueError: unknown suffix.
    """
    if suffix == ".safetensors":
        with needed_for("files in safetensors format"):
            from safetensors.torch import save

        return save(dict(weights), class_header(classes, toolbox=toolbox))
    if suffix != ".pth":
        raise ValueError(f"suffix={suffix!r}: published files have one of {SUFFIXES}")
    # a buffer, because torch stores a file's name in the file, which would change the hash
    buffer = io.BytesIO()
    torch.save({CONTAINER_OF[toolbox]: dict(weights), "meta": class_meta(classes)}, buffer)
    return buffer.getvalue()


def write_published(trained: Trained, folder: str | os.PathLike[str], name: str, suffix: str = ".pth") -> Path:
    """Write ``NAME-<first 8 digits of the sha256>.pth`` (or ``.safetensors``) atomically; ``folder`` is created."""
    data = serialize(trained.weights, trained.toolbox, trained.classes, suffix)
    path = Path(folder) / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return path


def as_pth(path: Path, toolbox: str, folder: Path) -> Path:
    """Convert a published ``.safetensors`` to the ``.pth`` that toolboxes read, in place of one left in ``folder``."""
    classes = read_class_names(path)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / f"{path.stem}.pth"
    with write_atomically(result) as temporary:
        temporary.write_bytes(serialize(read_checkpoint(path), toolbox, classes, ".pth"))
    return result


def read_results(path: str | os.PathLike[str], toolbox: str) -> dict[str, float]:
    """Read one toolbox's AP from a JSON file, in percent with one decimal.

    Args:
        path: ``results.json`` of ``tools/demo.py``, the report of ``tools/compare_toolboxes.py``, or a toolbox's own
            file (mmengine's ``coco/bbox_mAP``, Detectron2's ``metrics.json``).
        toolbox: ``"mmdet"`` or ``"detectron2"``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON, or holds no results.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        content = _parse(text)
    except (ValueError, RecursionError):
        content = _last_line(text, path)
    content = _mapping(_mapping(content).get("scores", content))
    content = _mapping(content.get(toolbox, content))
    found = [(name, 100, f"{kind}/AP", _mapping(content.get(kind)).get("AP")) for kind, name in _KINDS.items()]
    found += [(name, factor, key, content.get(key)) for key, (name, factor) in _FLAT.items()]
    metrics = {name: _percent(value, factor, key, path) for name, factor, key, value in found if value is not None}
    if not metrics:
        present = str(list(content))[:200]
        raise ValueError(f"{path} has no results of {toolbox}: it has {present}, looked for {[*_KINDS, *_FLAT]}")
    return metrics


def _percent(value: Any, factor: int, key: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= factor * value <= 100:
        expected = "from 0 to 1" if factor == 100 else "in percent"
        raise ValueError(f"{path}: {key}={str(value):.40} must be a number {expected}; evaluate the model again")
    return round(float(factor * value), 1)


def _parse(text: str) -> Any:
    # a number that Python would convert slowly, or to infinity, becomes NaN, which is out of range
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else math.nan)


def _last_line(text: str, path: Path) -> Any:
    """Read the last line with results of Detectron2's ``metrics.json``, which has one JSON object per line."""
    try:
        found = [_parse(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON, or nested too deeply: {error}") from error
    return next((line for line in reversed(found) if any(key in _mapping(line) for key in _FLAT)), {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix of the distributed training wrapper."""
    if not all(key.startswith(DISTRIBUTED) for key in weights):
        return weights
    return {key.removeprefix(DISTRIBUTED): value for key, value in weights.items()}


def _averaged(weights: dict[str, Tensor], average: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Replace weights with their averages; keep those that were not averaged."""
    average = _without_prefix(
        {key: value for key, value in average.items() if isinstance(value, Tensor) and str(key) == key}
    )
    unknown = sorted(set(average) - set(weights))
    if unknown or not average:
        raise ValueError(
            f"{path}: {SEPARATE_AVERAGE!r} should hold averages of the model's parameters; "
            + (f"the model has no {unknown[:6]}" if unknown else "it holds no tensors")
        )
    return {**weights, **average}
