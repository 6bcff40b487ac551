"""Take from mmengine's configs and runners what is slow and what no test looks at.

A training of two iterations takes half its time in formatting the text of its config, and in reading an index of all
models for each base that another package has, and each data set looks for garbage.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
import types
from collections.abc import Callable
from typing import Any


def install() -> None:
    """Do so once, in a process that has imported mmengine."""
    utils, runner = sys.modules.get("mmengine.config.utils"), sys.modules.get("mmengine.runner.runner")
    if utils is None or hasattr(utils.load, "__wrapped__"):
        return
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = _unchanged
    utils.load = _remembered(utils.load)
    if runner is not None:
        runner.collect_env = functools.cache(runner.collect_env)  # starts compilers to ask for their versions
        sys.modules["mmengine.dataset.base_dataset"].gc = types.SimpleNamespace(collect=lambda: 0)  # type: ignore[attr-defined]


def _remembered(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Read a file again only when it has changed."""
    known: dict[tuple[str, int, int], Any] = {}

    @functools.wraps(load)
    def read(file: str) -> Any:
        found = os.stat(file)
        key = (file, found.st_mtime_ns, found.st_size)
        if key not in known:
            known[key] = load(file)
        return known[key]

    return read


def _unchanged(text: str, **_: Any) -> tuple[str, bool]:
    ast.parse(text)  # yapf refuses what is no Python
    return text, False
