"""`Neck`, the interface of every neck, and `PyramidNeck`, the base class of necks that build a pyramid."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from torch import Tensor, nn

from ..checks import boolean, positive_int
from ..features import FeatureSpec, check_channels, check_in_channels, check_in_indices, check_specs, check_strides
from ..keywords import KeywordChecked
from ..ops import checkpointing
from ..ops.distributed import watch_first_step
from ..ops.scripting import ListForm, scriptable_form
from ..ops.tracing import traced


class Neck(Protocol):
    """Interface of a neck, from this package or a user's own: an ``nn.Module`` with these members.

    A neck may also have ``read_indices``, the positions of the inputs whose values it reads (`PyramidNeck` has it);
    `Pyramid` leaves out the layers of the backbone that only other maps need.
    """

    @property
    def in_channels(self) -> Sequence[int]:
        """Channels of each input map, high to low resolution; also the name of a constructor argument."""

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return channels and strides of the outputs for a backbone that publishes ``in_specs``.

        Raises:
            ValueError: the specs do not fit the neck; if the channels differ, the message names both lists.
        """

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one ``B C H W`` per entry of ``in_channels`` to one per entry of `out_specs`, high to low resolution.

        Raises:
            ValueError: the number of maps or their channels differ from ``in_channels``.
        """


def check_neck(neck: nn.Module | type[nn.Module]) -> None:
    """Raise ``TypeError`` that names what is missing unless a module, or a class of modules, conforms to `Neck`."""
    kind = neck if isinstance(neck, type) else type(neck)
    if not issubclass(kind, nn.Module):
        raise TypeError(f"{kind.__name__} is not a neck: it must be a subclass of torch.nn.Module")
    missing = []
    if kind is neck:
        parameters = inspect.signature(kind).parameters.values()
        accepted = any(p.name == "in_channels" or p.kind is p.VAR_KEYWORD for p in parameters)
        if not accepted or kind.__init__ is nn.Module.__init__:
            missing.append("a constructor argument in_channels")
    elif not hasattr(neck, "in_channels"):
        missing.append("an attribute in_channels")
    if not callable(getattr(neck, "out_specs", None)):
        missing.append("a method out_specs(in_specs) that returns a tuple of FeatureSpec")
    if kind.forward is nn.Module.forward:
        missing.append("a method forward(inputs) that returns a tuple of maps")
    if missing:
        raise TypeError(f"{kind.__name__} is not a neck: it lacks {' and '.join(missing)}; see fpn_plugins.necks.Neck")


def check_halving(maps: Sequence[Tensor], owner: str, rounded_down: bool = False) -> None:
    """Raise ``ValueError`` unless each map is half as large as the previous one; traced graphs are not checked.

    Args:
        maps: maps ``B C H W``, high to low resolution.
        owner: name of the module, for the message.
        rounded_down: whether half of an odd side can also be rounded down.
    """
    if traced():
        return
    for before, after in pairwise(maps):
        fine, coarse = tuple(before.shape[-2:]), tuple(after.shape[-2:])
        halved = tuple((side + 1) // 2 for side in fine)
        lowest = tuple(side // 2 for side in fine) if rounded_down else halved
        if not all(low <= side <= high for low, side, high in zip(lowest, coarse, halved, strict=True)):
            raise ValueError(
                f"{owner} halves a map of {fine} cells to {halved}, but the next map has {coarse}; choose adjacent "
                "stages with the backbone's out_indices, without dilation, or pad images to a multiple of the last "
                "stride"
            )


class PyramidNeck(KeywordChecked, nn.Module):
    """Base class: output maps with the same channels, one per used input by default, then optional extra levels.

    A subclass builds its layers in the constructor and computes the outputs in `pyramid`.

    Args:
        in_channels: channels of each input map, high to low resolution.
        out_channels: channels of every output map.
        in_indices: positions of the inputs to use, ascending and without gaps; ``None`` uses all.
        gradient_checkpointing: recompute maps in backward instead of keeping them; each subclass documents which ones.

    Attributes:
        read_indices: positions of the inputs whose values are read, not only their sizes; ``in_indices`` by default.
        used_channels: channels of the used maps.
        num_extra_levels: number of levels after the others, each at half the resolution; set by the subclass.

    Raises:
        TypeError: an argument of another type, or an unknown one.
        ValueError: no channels, or positions that are not adjacent.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        in_indices: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_in_channels(in_channels)
        self.in_indices = check_in_indices(in_indices, len(self.in_channels))
        self.read_indices = self.in_indices
        self.used_channels = tuple(self.in_channels[index] for index in self.in_indices)
        self.out_channels = positive_int("out_channels", out_channels)
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        self.num_extra_levels = 0

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the specs of the outputs; see `Neck.out_specs` and `out_strides`."""
        check_specs(in_specs, self.in_channels, type(self).__name__)
        strides = self.out_strides([in_specs[index].stride for index in self.in_indices])
        strides += [strides[-1] * 2 ** (k + 1) for k in range(self.num_extra_levels)]
        return tuple(map(FeatureSpec, self.level_channels(len(strides)), strides))

    def level_channels(self, number: int) -> Sequence[int]:
        """Return the channels of each of ``number`` outputs; a subclass whose outputs differ overrides this."""
        return [self.out_channels] * number

    def out_strides(self, strides: list[int]) -> list[int]:
        """Return the strides of the levels before the extra ones, given those of the used inputs.

        Raises:
            ValueError: a stride that is not twice the previous one.
        """
        check_strides(strides, type(self).__name__)
        return strides

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid; see `Neck.forward`.

        The inputs can have any sizes at which each map is about half as large as the previous one. By default, the
        outputs are one map ``B out_channels H W`` per used input, at its size, then the extra levels.
        """
        return tuple(self.pyramid(self.used(inputs)))

    def pyramid(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        raise NotImplementedError(f"{type(self).__name__} has to define pyramid(inputs), or its own forward")

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward` and return those at ``in_indices``."""
        check_channels(inputs, self.in_channels, type(self).__name__)
        watch_first_step(self)
        return [inputs[index] for index in self.in_indices]


class ListNeck(PyramidNeck):
    """Base class of necks that TorchScript compiles, and that are checkpointed as a whole.

    `pyramid` and the methods that it calls use lists and iterate over modules in order, because TorchScript compiles
    them. ``gradient_checkpointing`` keeps only the inputs for backward, which the backbone keeps anyway, and recomputes
    the maps between them and the outputs.
    """

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid, checkpointed as a whole; see `PyramidNeck.forward`."""
        used = self.used(inputs)
        return tuple(checkpointing.run(self.pyramid, used, checkpointed=self.gradient_checkpointing))

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that ``torch.jit.script`` compiles instead of this one."""
        return scriptable_form(self, ListForm)
