"""Refuse tensors of another shape, which the toolboxes' loaders skip with a warning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .layouts import LoadHook

SHOWN = 3  # tensors in a message


def other_shapes(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """List the keys of both dicts whose shapes differ."""
    return [key for key, value in given.items() if key in own and value.shape != own[key].shape]


def check_shapes(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], remedy: str, exempt: Iterable[str] = ()
) -> None:
    """Check that the tensors of a state dict have the module's shapes.

    Args:
        given: state dict in the module's own keys; keys that the module does not have are ignored.
        own: the module's state dict.
        remedy: end of the message.
        exempt: ends of keys that are not checked.

    Raises:
        ValueError: tensors of another shape; lists the keys with both shapes.
    """
    wrong = [key for key in other_shapes(given, own) if not key.endswith(tuple(exempt))]
    if wrong:
        shown = [f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}" for key in wrong[:SHOWN]]
        shown += [f"... ({len(wrong) - SHOWN} more)"] if len(wrong) > SHOWN else []
        raise ValueError(
            f"size mismatch, checkpoint has {len(wrong)} tensors of another shape: {', '.join(shown)}. {remedy}"
        )


def refuse_other_shapes(module: nn.Module, remedy: str, exempt: Iterable[str] = ()) -> None:
    """Let ``module.load_state_dict`` raise the error of `check_shapes`, also for callers that only warn of shapes.

    Call it after `accept_layouts`; parts of the module that resize their tables are ``exempt``.
    """
    module._register_load_state_dict_pre_hook(_ShapeHook(remedy, tuple(exempt)), with_module=True)


@dataclass
class _ShapeHook(LoadHook):
    remedy: str
    exempt: tuple[str, ...]

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> None:
        check_shapes(given, module.state_dict(), self.remedy, self.exempt)
