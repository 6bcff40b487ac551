"""Read Detectron2's YAML configs without executing what they contain; Detectron2 reads them with an unsafe loader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml
from detectron2.config import CfgNode

from ...packaged import resolve_config

_EVAL = "tag:yaml.org,2002:python/object/apply:eval"
# the only expression in Detectron2's own configs (Base-RetinaNet.yaml), which copies of them contain too
_ANCHORS = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
_BASE = "_BASE_"
_MAX_DEPTH, _MAX_VALUES = 32, 100_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also knows tuples, and the value of Detectron2's expression for anchor sizes."""


def _anchor_sizes(loader: _Loader, node: yaml.Node) -> list[list[float]]:
    if not isinstance(node, yaml.SequenceNode) or loader.construct_sequence(node) != [_ANCHORS]:
        raise yaml.constructor.ConstructorError(None, None, f"refused the tag {node.tag!r}", node.start_mark)
    return [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)]


def _tuple(loader: _Loader, node: yaml.Node) -> tuple[Any, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, f"{node.tag!r} must have a list", node.start_mark)
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor(_EVAL, _anchor_sizes)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)  # PyYAML writes tuples so


def merge_yaml(cfg: CfgNode, path: str) -> None:
    """Merge a file, and those under its ``_BASE_``, into ``cfg`` like ``cfg.merge_from_file``; execute nothing.

    A base may also be a name: ``detectron2::NAME`` or ``fpn_plugins::detectron2/NAME``.

    Raises:
        FileNotFoundError: no such file, or no config of that name.
        ValueError: not YAML, a tag of Python other than ``tuple`` and Detectron2's expression for anchor sizes, or
            values that contain themselves.
    """
    cfg.__dict__["load_yaml_with_base"] = lambda name, allow_unsafe=False: _read(name, 0)
    try:
        cfg.merge_from_file(path)
    finally:
        del cfg.__dict__["load_yaml_with_base"]


def _read(path: str, depth: int) -> dict[str, Any]:
    if depth == _MAX_DEPTH:
        raise ValueError(f"config {path!r}: {_BASE} names a file that includes this one; remove one of the two")
    with CfgNode._open_cfg(path) as file:
        try:
            found = yaml.load(file, _Loader)
        except (yaml.YAMLError, UnicodeError, RecursionError) as error:
            raise ValueError(
                f"config {path!r} cannot be read, and nothing in it was executed: {' '.join(str(error).split())}; "
                "write plain values in place of tags of Python"
            ) from error
    if not isinstance(found, dict) or _count(found, path, 0) > _MAX_VALUES:
        raise ValueError(f"config {path!r} must be a mapping of at most {_MAX_VALUES} values; write KEY: VALUE lines")
    bases = found.pop(_BASE, [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        name = resolve_config(os.path.expanduser(base))
        remote = name.startswith(("http://", "https://"))
        _merge(_read(name if remote else os.path.join(os.path.dirname(path), name), depth + 1), merged)
    _merge(found, merged)
    return merged


def _merge(source: Mapping[str, Any], target: dict[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(value, target[key])
        else:
            target[key] = value


def _count(value: Any, path: str, depth: int) -> int:
    """Count the values, those of an alias once for each place; stop above the limit."""
    if depth == _MAX_DEPTH:
        raise ValueError(f"config {path!r}: values are nested more than {_MAX_DEPTH} deep, or contain themselves")
    total = 1
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        total += _count(part, path, depth + 1)
        if total > _MAX_VALUES:
            break
    return total
