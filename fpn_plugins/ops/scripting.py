"""Compile a module that returns a tuple of maps with TorchScript.

TorchScript has no tuples of variable length, no sequences, and no checks that name their arguments. Therefore, a
module's computation is a method on lists, which eager mode uses, too, and ``torch.jit.script`` gets a copy of the
module whose ``forward`` takes and returns lists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def sharing_copy(module: Module) -> Module:
    """Copy a module, sharing its layers but not the table of them, in which TorchScript replaces entries."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class ListForm(nn.Module):
    """The ``forward`` of a scripted neck, which takes and returns lists and does not check the maps."""

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
