"""TorchScript: what ``torch.jit.script`` compiles of a module that gives a tuple of maps.

TorchScript has no tuples of any length, no sequences and no checks by name. So a module keeps its computation in a
method on lists, which both forms run, and hands ``torch.jit.script`` a copy of itself whose ``forward`` takes and
returns lists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from .base import PyramidNeck

Module = TypeVar("Module", bound=nn.Module)


def sharing_copy(module: Module) -> Module:
    """A copy with the very layers of ``module``, in a table of its own, into which TorchScript may put their forms."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class ListForm(PyramidNeck):
    """The ``forward`` of a scripted neck: the pyramid of a list of maps, as a list; the maps are not checked."""

    pyramid: Callable[[list[Tensor]], list[Tensor]]

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Map one ``B C H W`` per entry of ``in_channels`` to the pyramid, both high to low resolution."""
        return self.pyramid([inputs[index] for index in self.in_indices])


def list_form(neck: PyramidNeck) -> nn.Module:
    """A copy of ``neck`` for ``torch.jit.script``, sharing its layers.

    Args:
        neck: has a method ``pyramid(used_inputs: list[Tensor]) -> list[Tensor]``.
    """
    kind = type(neck)
    form = sharing_copy(neck)
    form.__class__ = type(kind.__name__, (ListForm, kind), {"__module__": kind.__module__})
    return form
