"""Describe feature maps by channels and stride, from which everything after a backbone is derived.

Legend used throughout the package: ``B`` batch, ``C`` channels, ``H`` height, ``W`` width. A *pyramid* is a tuple of
maps ``B C H W`` from high to low resolution. A *stride* is counted in input pixels per cell; a *level* is
``log2(stride)``, so the map of stride 8 is ``c3`` at a backbone's output and ``p3`` at a neck's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor


class FeatureSpec(NamedTuple):
    """Published shape of one feature map.

    Attributes:
        channels: number of channels ``C``.
        stride: input pixels per cell, a power of two for every map that has a level name.
    """

    channels: int
    stride: int

    @property
    def level(self) -> int:
        """Return ``log2(stride)``; ``ValueError`` if the stride is not a power of two."""
        if self.stride < 1 or self.stride & (self.stride - 1):
            raise ValueError(f"stride {self.stride} is not a power of two, so the map has no level name")
        return self.stride.bit_length() - 1

    def name(self, prefix: str = "p") -> str:
        """Return ``p2``, ``p3``, ...; the number is the level."""
        return f"{prefix}{self.level}"


class SemanticSpec(FeatureSpec):
    """Published shape of a map merged from several pyramid levels for a semantic head; it is not a level itself."""

    def name(self, prefix: str = "p") -> str:
        """Return ``"semantic"`` for any prefix."""
        return "semantic"


def level_names(specs: Iterable[FeatureSpec], prefix: str = "p") -> tuple[str, ...]:
    """Return the names of the maps: ``p2, p3, ...``, or ``c2, ...`` with ``prefix="c"``."""
    return tuple(spec.name(prefix) for spec in specs)


def check_channels(features: Sequence[Tensor], in_channels: Sequence[int], owner: str) -> None:
    """Raise ``ValueError`` unless ``features`` has the number of maps and channels that ``owner`` was built for.

    Args:
        features: maps ``B C H W``.
        in_channels: expected channels of each map.
        owner: name of the module, for the message.
    """
    got = [int(feature.shape[1]) if feature.dim() == 4 else None for feature in features]
    if got != list(in_channels):
        shapes = [tuple(feature.shape) for feature in features]
        raise ValueError(
            f"{owner} was built for in_channels={list(in_channels)} but received {len(features)} maps with channels "
            f"{got} (shapes {shapes}, expected B C H W). Set in_channels to the backbone's channels "
            "([s.channels for s in backbone.feature_specs]) or choose other maps with the backbone's out_indices"
        )


def check_specs(in_specs: Sequence[FeatureSpec], in_channels: Sequence[int], owner: str) -> None:
    """Raise ``ValueError`` unless the published ``in_specs`` have exactly the channels that ``owner`` was built for."""
    published = [spec.channels for spec in in_specs]
    if published != list(in_channels):
        raise ValueError(
            f"{owner} was built for in_channels={list(in_channels)} but the backbone publishes channels {published} "
            f"at strides {[spec.stride for spec in in_specs]}. Take in_channels from backbone.feature_specs, "
            "or change the backbone's out_indices"
        )


def check_in_channels(in_channels: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of a module's input maps as integers; ``ValueError`` unless they list at least one map."""
    if isinstance(in_channels, int) or not in_channels or any(int(channels) < 1 for channels in in_channels):
        raise ValueError(f"in_channels={in_channels!r} must list the channels of at least one map, e.g. [256, 512]")
    return tuple(int(channels) for channels in in_channels)


def check_in_indices(in_indices: Sequence[int] | None, num_inputs: int) -> tuple[int, ...]:
    """Return the used positions among ``num_inputs`` maps (``None``: all); ``ValueError`` unless adjacent."""
    if in_indices is None:
        return tuple(range(num_inputs))
    indices = tuple(in_indices)
    adjacent = bool(indices) and indices == tuple(range(indices[0], indices[-1] + 1))
    if not adjacent or indices[0] < 0 or indices[-1] >= num_inputs:
        raise ValueError(
            f"in_indices={list(indices)} must be adjacent positions among the {num_inputs} inputs "
            f"(0..{num_inputs - 1}), in ascending order"
        )
    return indices


def check_strides(strides: Sequence[int], owner: str) -> None:
    """Raise ``ValueError`` unless each stride is twice the previous one, as resizing by doubling needs."""
    if any(coarse != 2 * fine for fine, coarse in zip(strides, strides[1:], strict=False)):
        raise ValueError(
            f"{owner} doubles the resolution from level to level, but the maps have strides {list(strides)}; "
            "choose adjacent stages with the backbone's out_indices"
        )


def check_pyramid(features: Sequence[Tensor], specs: Sequence[FeatureSpec], image_size: tuple[int, int]) -> None:
    """Raise ``ValueError`` unless every map has the published channels and the size that its stride implies.

    Networks round odd sizes up (padded convolutions) or down (patch convolutions), and rounding accumulates over the
    stages; a map may therefore be one cell off ``image / stride``, never more.

    Args:
        features: maps ``B C H W``.
        specs: published shape of each map.
        image_size: height and width of the input in pixels.
    """
    if len(features) != len(specs):
        raise ValueError(f"{len(features)} maps for {len(specs)} published specs {list(specs)}")
    for index, (feature, spec) in enumerate(zip(features, specs, strict=True)):
        ideal = [side / spec.stride for side in image_size]
        fits = all(abs(got - want) <= 1 for got, want in zip(feature.shape[-2:], ideal, strict=True))
        if feature.shape[1] != spec.channels or not fits:
            raise ValueError(
                f"map {index} has shape {tuple(feature.shape)}, but {spec} on an image of {tuple(image_size)} "
                f"means {spec.channels} channels and about {ideal[0]:.1f} x {ideal[1]:.1f} cells"
            )
