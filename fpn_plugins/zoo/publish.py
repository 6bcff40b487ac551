"""From the checkpoint of a training to the files that are published."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conversion.tables import toolbox_of
from ..files import write_atomically
from ..weights.checkpoint import CONTAINERS, read_checkpoint, read_content
from .release_files import serialize

# averages of the weights in training checkpoints: mmengine's hook has exchanged them with the state dict, which is the
# average already; trainers on Detectron2 (d2go, detrex) keep them apart from the model
SWAPPED_AVERAGE, SEPARATE_AVERAGE = "ema_state_dict", "ema_state"
DISTRIBUTED = "module."

# how results are written: by tools/demo.py and tools/compare_toolboxes.py (shares), and by the toolboxes themselves
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
    """What is worth publishing of a training.

    Attributes:
        weights: state dict of the detector, averaged where the training averaged.
        toolbox: whose names it has.
        classes: names of the classes, where the checkpoint has them.
        average: key of the checkpoint that says that ``weights`` are averages.
        dropped: keys of the checkpoint that are not published.
    """

    weights: dict[str, Tensor]
    toolbox: str
    classes: tuple[str, ...] = ()
    average: str | None = None
    dropped: tuple[str, ...] = ()


def clean_checkpoint(path: str | os.PathLike[str], trusted: bool = False) -> Trained:
    """The weights of a training checkpoint of either toolbox; optimiser, schedule and log stay behind.

    Args:
        path: as for `read_checkpoint`.
        trusted: as for `read_checkpoint`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, with objects that would have to be executed, or not the checkpoint of a detector.
    """
    weights = read_checkpoint(path, trusted)
    content = read_content(path, trusted)
    rest = dict(content) if isinstance(content, Mapping) else {}
    container = next((key for key in CONTAINERS if isinstance(rest.get(key), Mapping)), None)
    if container is None:
        rest = {}  # a state dict without anything around it
    rest.pop(container, None)
    average = next((key for key in (SWAPPED_AVERAGE, SEPARATE_AVERAGE) if isinstance(rest.get(key), Mapping)), None)
    weights = _without_prefix(weights)
    if average == SEPARATE_AVERAGE:
        weights = _averaged(weights, rest[average], Path(path))
    # copies: tensors that share memory, or are parts of larger ones, would take that along
    weights = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    classes = _classes(rest.get("meta"))
    return Trained(weights, toolbox_of(weights), classes, average, tuple(key for key in rest if key != "meta"))


def write_published(trained: Trained, folder: str | os.PathLike[str], name: str, suffix: str = ".pth") -> Path:
    """Write ``NAME-<first 8 digits of the sha256>.pth``, whole or not at all.

    Args:
        trained: what `clean_checkpoint` has read.
        folder: made if it does not exist.
        name: of the model.
        suffix: ``".pth"`` or ``".safetensors"``.
    """
    data = serialize(trained.weights, trained.toolbox, trained.classes, suffix)
    path = Path(folder) / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return path


def read_results(path: str | os.PathLike[str], toolbox: str) -> dict[str, float]:
    """The AP of one toolbox in a JSON of results, in percent with one decimal.

    Args:
        path: ``results.json`` of ``tools/demo.py``, the report of ``tools/compare_toolboxes.py``, or what a toolbox
            writes (mmengine's ``coco/bbox_mAP``, a line of Detectron2's ``metrics.json``).
        toolbox: ``"mmdet"`` or ``"detectron2"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or without results.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8")
    try:
        content = json.loads(lines)
    except json.JSONDecodeError:
        content = _last_line(lines, path)
    content = content.get("scores", content) if isinstance(content, Mapping) else {}
    content = content.get(toolbox, content)
    metrics = {name: 100 * content[kind]["AP"] for kind, name in _KINDS.items() if "AP" in _mapping(content.get(kind))}
    metrics.update({name: factor * content[key] for key, (name, factor) in _FLAT.items() if key in content})
    if not metrics:
        raise ValueError(f"{path} has no results of {toolbox}: it has {list(content)}, looked for {[*_KINDS, *_FLAT]}")
    return {name: round(float(value), 1) for name, value in metrics.items()}


def _last_line(lines: str, path: Path) -> Any:
    """Detectron2's ``metrics.json`` has a JSON per line; the last one with results counts."""
    try:
        found = [json.loads(line) for line in lines.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return next((line for line in reversed(found) if any(key in _mapping(line) for key in _FLAT)), {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the model, without those of the wrapper of distributed training."""
    if not all(key.startswith(DISTRIBUTED) for key in weights):
        return weights
    return {key.removeprefix(DISTRIBUTED): value for key, value in weights.items()}


def _averaged(weights: dict[str, Tensor], average: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights with their averages in place of them; what was not averaged stays."""
    average = _without_prefix({key: value for key, value in average.items() if isinstance(value, Tensor)})
    unknown = sorted(set(average) - set(weights))
    if unknown or not average:
        raise ValueError(
            f"{path}: {SEPARATE_AVERAGE!r} should hold averages of the model's parameters; "
            + (f"the model has no {unknown[:6]}" if unknown else "it holds no tensors")
        )
    return {**weights, **average}


def _classes(meta: Any) -> tuple[str, ...]:
    """Names of the classes in what mmengine writes beside the weights."""
    meta = _mapping(meta)
    found = _mapping(meta.get("dataset_meta")).get("classes", ())
    return tuple(found) if all(isinstance(name, str) for name in found) else ()
