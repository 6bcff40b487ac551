"""Compile a module that returns a tuple of maps with TorchScript.

TorchScript has no tuples of variable length, no sequences, and no checks that name their arguments. Therefore, a
module's computation is a method on lists, which eager mode uses, too, and ``torch.jit.script`` gets a copy of the
module whose ``forward`` returns lists.

TorchScript puts such a copy in the place of the module in a parent that does not copy itself (a torchvision detector,
say). In eager mode, therefore, a copy computes as the module does, and pickles and copies as the module itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Form(nn.Module):
    """Base of the copies: only what TorchScript compiles differs from the original."""

    def train(self, mode: bool = True) -> Any:
        """Switch mode, that of the original included."""
        self.__dict__["original"][0].train(mode)  # in a tuple, so that it is no submodule
        return super().train(mode)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle and copy as the original."""
        return _same, self.__dict__["original"]


def _same(module: nn.Module) -> nn.Module:
    return module


def refuse_scripting(module: nn.Module) -> nn.Module:
    """Raise ``TypeError`` for a class of this package that ``torch.jit.script`` cannot compile; return a user's module.

    It is the ``__prepare_scriptable__`` of classes without a scriptable form.
    """
    kind = type(module)
    if kind.__module__.partition(".")[0] != __name__.partition(".")[0]:
        return module
    remedy = "use torch.export, or torch.jit.trace for images of one size"
    raise TypeError(f"torch.jit.script does not compile {kind.__name__}; {remedy}")


class ListForm(Form):
    """The ``forward`` of a scripted neck, which takes and returns lists and does not check the maps."""

    pyramid: Callable[[list[Tensor]], list[Tensor]]

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Map one ``B C H W`` per entry of ``in_channels`` to the pyramid, both high to low resolution."""
        if torch.jit.is_scripting():
            return self.pyramid([inputs[index] for index in self.in_indices])  # type: ignore[union-attr]
        else:  # noqa: RET505 TorchScript compiles what follows a return
            return super().forward(inputs)


class ChainForm(Form):
    """The ``forward`` of scripted necks, one applied after another."""

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Map one ``B C H W`` per input of the first neck to the maps of the last."""
        for neck in self:  # type: ignore[attr-defined]
            inputs = neck(inputs)
        return inputs


class ImageForm(Form):
    """The ``forward`` of a scripted backbone, which returns a list."""

    maps: Callable[[Tensor], list[Tensor]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images ``B C H W`` to maps, high to low resolution."""
        if torch.jit.is_scripting():
            return self.maps(x)
        else:  # noqa: RET505 TorchScript compiles what follows a return
            return super().forward(x)


def scriptable_form(module: nn.Module, form: type[Form] = Form) -> Any:
    """Copy a module for ``torch.jit.script``, sharing its layers but not the table in which TorchScript replaces them.

    Args:
        module: for a `ListForm`, it has ``in_indices`` and a method ``pyramid(used_inputs: list) -> list``; for an
            `ImageForm`, a method ``maps(x) -> list``; for a `ChainForm`, it is a sequence of necks.
        form: class that defines the compiled ``forward``; `Form` keeps the module's own.
    """
    kind = type(module)
    if not isinstance(module, Form):
        # TorchScript reads the first annotations that it finds, in PyTorch 2.1 not as text: repeat one of nn.Module
        inside = {"__module__": kind.__module__, "__annotations__": {"training": bool}}
        kind = type(kind.__name__, (form, kind), inside)
    twin: Any = object.__new__(kind)
    twin.__dict__.update({"original": (module,), **module.__dict__, "_modules": dict(module._modules)})
    twin.__dict__.pop("forward", None)  # a feature cache, which TorchScript cannot hold
    return twin
