"""Modules on a CUDA device that need not exist: shapes, dtypes and devices are computed, values are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def on_fake_cuda(module: nn.Module) -> Iterator[None]:
    """Within the context, ``module`` is on CUDA, and so is what is created with ``device="cuda"``.

    A module's own ``torch.autocast`` works as on a GPU.
    """
    with (
        FakeTensorMode(),
        patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        patch("torch.cuda.is_bf16_supported", return_value=True),
    ):
        for owner in module.modules():
            for name, p in owner.named_parameters(recurse=False):
                owner.register_parameter(name, nn.Parameter(_fake(p), requires_grad=p.requires_grad))
            for name, buffer in owner.named_buffers(recurse=False):
                owner.register_buffer(name, _fake(buffer), persistent=name not in owner._non_persistent_buffers_set)
        yield


@contextmanager
def cuda_autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast on CUDA, which ``torch.autocast`` turns off where there is none."""
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or before)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)
        torch.clear_autocast_cache()


def _fake(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device="cuda")


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return [value]
    nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in nested for tensor in tensors_in(part)]


def assert_runs_on_cuda(module: nn.Module, inputs: Any, dtype: torch.dtype | None = None) -> None:
    """Run ``module`` in both modes on fake CUDA tensors like ``inputs``; all of its results have to be on CUDA.

    Args:
        module: network, on any device; its tensors are replaced.
        inputs: a tensor, or a tuple of tensors, of the shapes to run; their values are not read.
        dtype: autocast dtype; ``None`` is no autocast.
    """
    with on_fake_cuda(module):
        like = [torch.empty(x.shape, device="cuda") for x in tensors_in(inputs)]
        for train in (False, True):
            module.train(train)
            with cuda_autocast(dtype), torch.set_grad_enabled(train):
                maps = tensors_in(module(like[0] if isinstance(inputs, Tensor) else tuple(like)))
            devices = {m.device.type for m in maps}
            assert devices == {"cuda"}, f"results are on devices {sorted(devices)}"
