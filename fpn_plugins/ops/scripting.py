"""TorchScript: compile a module that returns a tuple of maps.

TorchScript has no tuples of variable length, no sequences, and no checks that name their arguments. So a module keeps
its computation in a method on lists, which eager mode runs as well, and hands ``torch.jit.script`` a copy of itself
whose ``forward`` takes and returns lists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def sharing_copy(module: Module) -> Module:
    """Copy a module with its own table of the same layers, so that TorchScript can replace entries of the table."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class ListForm(nn.Module):
    """``forward`` of a scripted neck: a list of maps to the pyramid as a list; the maps are not checked."""

    pyramid: Callable[[list[Tensor]], list[Tensor]]

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Map one ``B C H W`` per entry of ``in_channels`` to the pyramid, both high to low resolution."""
        return self.pyramid([inputs[index] for index in self.in_indices])  # type: ignore[union-attr]


def list_form(neck: nn.Module) -> nn.Module:
    """Copy a neck for ``torch.jit.script``, sharing its layers.

    Args:
        neck: has ``in_indices`` and a method ``pyramid(used_inputs: list[Tensor]) -> list[Tensor]``.
    """
    kind = type(neck)
    form = sharing_copy(neck)
    form.__class__ = type(kind.__name__, (ListForm, kind), {"__module__": kind.__module__})
    return form
