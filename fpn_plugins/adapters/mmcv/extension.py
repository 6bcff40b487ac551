"""Look up operators as mmcv does: attributes of this module stand for those of the compiled extension ``mmcv._ext``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from . import aggregation, convolution, losses, masked_convolution, normalization, regions, suppression
from .operator import OPERATORS

__all__ = ["MODULES", "lookup"]

MODULES = (aggregation, convolution, losses, masked_convolution, normalization, regions, suppression)
REMEDY = (
    "it is not among those that MMDetection needs, which fpn_plugins computes with torchvision. Build mmcv with its "
    "compiled extension (MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary mmcv mmcv), which is used "
    "instead as soon as it exists"
)


def get_compiler_version() -> str:
    """Say, where mmcv logs its compiler, what takes the extension's place."""
    return "none (operators by fpn_plugins)"


def get_compiling_cuda_version() -> str:
    """Return the version of CUDA that PyTorch was built with, ``"not available"`` if there is none."""
    import torch

    return torch.version.cuda or "not available"


OPERATORS.update(get_compiler_version=get_compiler_version, get_compiling_cuda_version=get_compiling_cuda_version)


def lookup(name: str) -> Callable[..., Any]:
    """Return the operator of that name, or a function that raises `NotImplementedError` when it is called.

    mmcv looks up all of its operators when it is imported, whoever uses them.
    """

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"mmcv's operator {name!r} does not exist without its compiled extension: {REMEDY}")

    return OPERATORS.get(name, missing)


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lookup(name)
