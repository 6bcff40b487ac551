"""Run mmcv's operators on its compiled extension or on ours, and compare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fpn_plugins.adapters.mmcv import extension


@contextmanager
def without_compiled() -> Iterator[None]:
    """Within the context, all of mmcv's operators are ours."""
    import mmcv.ops  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("mmcv.ops.") and hasattr(module, "ext_module"):
                patch.setattr(module, "ext_module", extension)
        yield


def results(function: Callable[..., Tensor], *tensors: Tensor | None, **more: Any) -> list[Tensor]:
    """Return the output, and the gradients of the tensors that require them, of a call on copies."""
    copies = [t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t for t in tensors]
    leaves = [copy for copy in copies if isinstance(copy, Tensor) and copy.requires_grad]
    output = function(*copies, **more)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64, device=output.device).view(output.shape)
    return [output.detach(), *torch.autograd.grad((output * weights.to(output.dtype)).sum(), leaves)]


def assert_close(got: list[Tensor], wanted: list[Tensor], tolerance: float = 1e-5) -> None:
    """Compare in the wanted dtype, relative to the largest wanted number where that is above 1."""
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        scale = max(1.0, b.abs().max().item() if b.numel() else 1.0)
        torch.testing.assert_close(a.to(b.dtype), b, rtol=0, atol=tolerance * scale)
