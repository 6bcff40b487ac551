"""Modules on a CUDA device that need not exist: shapes, dtypes and devices are computed, values are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def on_fake_cuda(module: nn.Module) -> Iterator[None]:
    """Within the context, ``module`` is on CUDA, and so is what is created with ``device="cuda"``."""
    with FakeTensorMode():
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
