"""Take from mmengine's configs and runners what is slow and what no test looks at.

A training of two iterations takes half its time in formatting the text of its config, and in reading an index of all
models for each base that another package has, and each data set looks for garbage.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from typing import Any


def install() -> None:
    """Do so once, in a process that has imported mmengine."""
    utils, runner = sys.modules.get("mmengine.config.utils"), sys.modules.get("mmengine.runner.runner")
    if utils is None or hasattr(utils.load, "cache_info"):
        return
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = _unchanged
    utils.load = functools.cache(utils.load)
    if runner is not None:
        runner.collect_env = functools.cache(runner.collect_env)  # starts compilers to ask for their versions
        sys.modules["mmengine.dataset.base_dataset"].gc = types.SimpleNamespace(collect=lambda: 0)  # type: ignore[attr-defined]


def _unchanged(text: str, **_: Any) -> tuple[str, bool]:
    ast.parse(text)  # yapf refuses what is no Python
    return text, False
