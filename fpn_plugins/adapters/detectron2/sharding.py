"""Shard a LazyConfig's detector between the processes of a training: ``train.fsdp``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm
from torch import nn

from ...checks import shown
from ...sharding import ShardingError, shard

_DEFAULTS = {"enabled": False, "reshard_after_forward": True}


def read_fsdp(train: Mapping[str, Any]) -> dict[str, bool]:
    """Read and check ``fsdp`` of a LazyConfig's section ``train``.

    Args:
        train: the section; ``fsdp`` may be missing. ``fsdp.enabled`` (False) shards, and
            ``fsdp.reshard_after_forward`` (True) is the argument of `fpn_plugins.sharding.shard`.

    Returns:
        Value of each key.

    Raises:
        ShardingError: another key, or a value of another type.
    """
    given = train.get("fsdp") or {}
    known = isinstance(given, Mapping) and set(given) <= set(_DEFAULTS)
    if not known or not all(isinstance(value, bool) for value in given.values()):
        raise ShardingError(
            f"train.fsdp={shown(given)} must have True or False for {list(_DEFAULTS)}, such as train.fsdp.enabled=True"
        )
    return {**_DEFAULTS, **given}


def shard_as_configured(model: nn.Module, train: Mapping[str, Any]) -> None:
    """Divide a detector between the processes, in place, if its config says so and there are several.

    Call it before the optimizer is built.

    Args:
        model: a detector on the CPU, of which only parts are moved to ``train.device`` then.
        train: section ``train`` of a LazyConfig, see `read_fsdp`, with ``device``.

    Raises:
        ShardingError: see `read_fsdp` and `fpn_plugins.sharding.shard`.
    """
    options = read_fsdp(train)
    if options.pop("enabled") and comm.get_world_size() > 1:
        shard(model, train["device"], **options)
