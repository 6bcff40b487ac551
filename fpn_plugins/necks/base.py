"""What necks that make a pyramid out of a backbone's maps have in common: the maps they use, the specs they publish."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..features import (
    FeatureSpec,
    check_channels,
    check_in_channels,
    check_in_indices,
    check_specs,
    check_strides,
)


class PyramidNeck(nn.Module):
    """A neck that gives one map per used input, all with the same channels, and perhaps levels above them.

    Args:
        in_channels: channels of each input map, high to low resolution.
        out_channels: channels of every output map.
        in_indices: which inputs are used, ascending, without gaps; ``None`` is all.

    Attributes:
        used_channels: channels of the used maps.
        num_extra_levels: levels above the last used input, each of half the resolution; the subclass sets it.

    Raises:
        ValueError: no channels, or positions that are not neighbours among the inputs.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, in_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.in_channels = check_in_channels(in_channels)
        self.in_indices = check_in_indices(in_indices, len(self.in_channels))
        self.used_channels = tuple(self.in_channels[index] for index in self.in_indices)
        self.out_channels = out_channels
        self.num_extra_levels = 0

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Channels and strides of the outputs for a backbone that publishes ``in_specs``.

        Raises:
            ValueError: the channels are not the ones that this neck was built for (names both lists), or a used stride
                is not twice the one before.
        """
        check_specs(in_specs, self.in_channels, type(self).__name__)
        strides = [in_specs[index].stride for index in self.in_indices]
        check_strides(strides, type(self).__name__)
        strides += [strides[-1] * 2 ** (k + 1) for k in range(self.num_extra_levels)]
        return tuple(FeatureSpec(self.out_channels, stride) for stride in strides)

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The used ones of the maps ``B C H W`` that ``forward`` is given.

        Raises:
            ValueError: another number of maps or channels than the neck was built for.
        """
        check_channels(inputs, self.in_channels, type(self).__name__)
        return [inputs[index] for index in self.in_indices]
