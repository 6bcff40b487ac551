"""Formats in which class names are stored next to weights, where no toolbox's own loader minds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# entry of a .safetensors file's metadata; a single one, because safetensors writes several in arbitrary order
METADATA = "detector"


def class_meta(classes: Sequence[str]) -> dict[str, Any]:
    """Return the ``meta`` of a checkpoint as mmengine stores it; empty without classes. Detectron2 ignores it."""
    return {"dataset_meta": {"classes": tuple(classes)}} if classes else {}


def class_header(classes: Sequence[str], **more: str) -> dict[str, str]:
    """Return the metadata of a ``.safetensors`` file: class names and ``more``, as JSON."""
    return {METADATA: json.dumps({**more, "classes": list(classes)})}


def classes_of(content: object) -> tuple[str, ...]:
    """Find class names in a checkpoint's content; empty if there are none.

    They are ``meta["dataset_meta"]["classes"]`` as mmengine stores them, or ``meta["CLASSES"]`` of mmdet 2. Of a
    panoptic data set, they are its ``"thing_classes"``: ``"classes"`` are things and stuff.
    """
    meta = _mapping(_mapping(content).get("meta"))
    found = _mapping(meta.get("dataset_meta"))
    return _names(found.get("thing_classes") or found.get("classes") or found.get("CLASSES") or meta.get("CLASSES"))


def classes_in_header(metadata: Mapping[str, str] | None) -> tuple[str, ...]:
    """Find class names in a ``.safetensors`` file's metadata; empty if there are none."""
    try:
        return _names(_mapping(json.loads((metadata or {}).get(METADATA, "{}"))).get("classes"))
    except (ValueError, RecursionError):
        return ()


def _names(value: Any) -> tuple[str, ...]:
    """Return a list of texts, or nothing for any other value."""
    named = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    return tuple(value) if named else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
