"""Read Detectron2's configs with this package's keys; an error names the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2 import model_zoo  # noqa: F401  # warns when it is imported: here, and not when a config does
from detectron2.config import CfgNode, LazyConfig, get_cfg

from ..config_errors import reading, split_overrides
from .config import add_fpn_plugins_config
from .yaml import merge_yaml


def read_yaml(path: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML config, and change values.

    Args:
        path: config file.
        overrides: keys and values in turn, ``["SOLVER.MAX_ITER", "2"]``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read (see `merge_yaml`), or has unknown keys or values of another type.
    """
    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    with reading(path):
        merge_yaml(cfg, path)
    with reading(path, overrides):
        cfg.merge_from_list(list(overrides))
    return cfg


def read_lazy(path: str, overrides: Sequence[str] = ()) -> Any:
    """Execute a LazyConfig file, and change values by ``KEY=VALUE``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be executed or describes no model, or an override is wrong.
    """
    with reading(path):
        cfg: Any = LazyConfig.load(path)
        model = cfg.get("model") if isinstance(cfg, Mapping) else None
        if not isinstance(model, Mapping) or "_target_" not in model:
            raise ValueError(f"config {path!r} has no `model` with a `_target_`, as a LazyConfig of Detectron2 has")
    split_overrides((option.lstrip("+~") for option in overrides), list(cfg))
    with reading(path, overrides):
        return LazyConfig.apply_overrides(cfg, list(overrides))
