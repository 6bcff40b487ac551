"""Describe feature maps by channels and stride, from which everything after a backbone is derived.

Legend used throughout the package: ``B`` batch, ``C`` channels, ``H`` height, ``W`` width. A *pyramid* is a tuple of
maps ``B C H W`` from high to low resolution. A *stride* is counted in input pixels per cell; a *level* is
``log2(stride)``, so the map of stride 8 is ``c3`` at a backbone's output and ``p3`` at a neck's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import integer, integers, shown
from .compat import autocast_enabled, compiling


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
    """Raise an error unless ``features`` are maps that ``owner`` was built for and that belong to one pyramid.

    Batch sizes and sizes are not compared while a graph is traced, in which they are symbols.

    Args:
        features: maps ``B C H W``.
        in_channels: expected channels of each map.
        owner: name of the module, for the message.

    Raises:
        TypeError: not a sequence of tensors, such as a dict of maps.
        ValueError: another number of maps or other channels; maps of different batches, types or devices; no
            floating-point numbers; or sizes that are not in descending order.
    """
    _check_tensors(features, owner)
    got = [int(feature.shape[1]) if feature.dim() == 4 else None for feature in features]
    if got != list(in_channels):
        shapes = [tuple(feature.shape) for feature in features]
        raise ValueError(
            f"{owner} was built for in_channels={list(in_channels)} but received {len(features)} maps with channels "
            f"{got} (shapes {shapes}, expected B C H W). Set in_channels to the backbone's channels "
            "([s.channels for s in backbone.feature_specs]) or choose other maps with the backbone's out_indices"
            f"{_PYRAMID_HINT if len(got) > 1 and len(set(got)) == 1 else ''}"
        )
    first = features[0]
    for index, x in enumerate(features):
        if x.device != first.device or x.dtype != first.dtype or not x.is_floating_point():
            _check_values(features, index, owner)
    if not (compiling() or torch.jit.is_tracing()):
        _check_sizes(features, owner)


# a backbone of equal channels is usually a pyramid already
_PYRAMID_HINT = "; if the backbone has its own neck, set the detector's neck=None"
# largest number of cells of a side per cell of the next map: maps of stride 2 and 64
_LARGEST_STEP = 32
# and per cell of a map that has only one, which is rather a pooled map: maps of stride 2 and 32
_LARGEST_STEP_TO_ONE = 16


def _check_tensors(features: Any, owner: str) -> None:
    if isinstance(features, (Mapping, str, Tensor)) or not isinstance(features, Sequence):
        remedy = "; pass list(maps.values())" if isinstance(features, Mapping) else ""
        raise TypeError(f"{owner} takes a list or tuple of maps B C H W, not a {type(features).__name__}{remedy}")
    if not all(isinstance(feature, Tensor) for feature in features):
        kinds = [type(feature).__name__ for feature in features]
        raise TypeError(f"{owner} takes a list or tuple of maps B C H W, but received {kinds}")


def check_outputs(maps: Any, number: int, owner: str) -> None:
    """Raise ``TypeError`` unless a module returned a sequence of at least ``number`` maps."""
    if isinstance(maps, (Mapping, Tensor)) or not isinstance(maps, Sequence) or len(maps) < number:
        found = f"{len(maps)} maps" if isinstance(maps, (list, tuple)) else f"a {type(maps).__name__}"
        raise TypeError(f"{owner} publishes {number} maps or more but returned {found}; return a tuple of maps")


def _check_values(features: Sequence[Tensor], index: int, owner: str) -> None:
    """Check type and device of a map against the first; under autocast, types differ between kinds of layers."""
    x, first = features[index], features[0]
    if x.device != first.device:
        raise ValueError(f"{owner} received maps on different devices, {first.device} and {x.device} (map {index})")
    if not x.is_floating_point():
        raise ValueError(f"{owner} takes maps of floating-point numbers, but map {index} has {x.dtype}")
    if not (first.is_floating_point() and autocast_enabled(x.device.type)):
        raise ValueError(
            f"{owner} received maps of different types, {first.dtype} and {x.dtype} (map {index}); convert them with "
            "maps = [x.float() for x in maps]"
        )


def _check_sizes(features: Sequence[Tensor], owner: str) -> None:
    before = features[0].shape
    for index, x in enumerate(features):
        shape = x.shape
        if shape[0] != before[0] or 0 in shape[1:]:
            shapes = [tuple(feature.shape) for feature in features]
            raise ValueError(f"{owner} received maps of different batches, or empty ones: shapes {shapes} (B C H W)")
        pooled = shape[2] == shape[3] == 1 and max(before[2:]) > _LARGEST_STEP_TO_ONE
        for fine, coarse in ((before[2], shape[2]), (before[3], shape[3])):
            if pooled or not fine // _LARGEST_STEP <= coarse <= fine:
                raise ValueError(
                    f"{owner} takes maps from high to low resolution, but map {index} has {tuple(shape[2:])} cells "
                    f"after {tuple(before[2:])}; pass the maps of one image in the order of their strides"
                )
        before = shape


def check_specs(in_specs: Sequence[FeatureSpec], in_channels: Sequence[int], owner: str) -> None:
    """Raise ``ValueError`` unless the published ``in_specs`` have exactly the channels that ``owner`` was built for."""
    published = [spec.channels for spec in in_specs]
    if published != list(in_channels):
        raise ValueError(
            f"{owner} was built for in_channels={list(in_channels)} but the module before it publishes channels "
            f"{published} at strides {[spec.stride for spec in in_specs]}. Take in_channels from "
            "backbone.feature_specs, or from out_specs of the neck before it, or change the backbone's out_indices"
        )


def check_in_channels(in_channels: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of a module's input maps as integers.

    Raises:
        TypeError: not a sequence of integers.
        ValueError: no maps, or channels below 1.
    """
    if isinstance(in_channels, int):
        raise ValueError(f"in_channels={in_channels!r} must list the channels of at least one map, e.g. [256, 512]")
    found = integers("in_channels", in_channels)
    if not found or min(found) < 1:
        raise ValueError(f"in_channels={list(found)} must list the channels of at least one map, e.g. [256, 512]")
    return found


def check_in_indices(in_indices: Sequence[int] | None, num_inputs: int) -> tuple[int, ...]:
    """Return the used positions among ``num_inputs`` maps (``None``: all).

    Raises:
        TypeError: not a sequence of integers.
        ValueError: positions that are not adjacent.
    """
    if in_indices is None:
        return tuple(range(num_inputs))
    indices = integers("in_indices", in_indices)
    adjacent = bool(indices) and indices == tuple(range(indices[0], indices[-1] + 1))
    if not adjacent or indices[0] < 0 or indices[-1] >= num_inputs:
        raise ValueError(
            f"in_indices={list(indices)} must be adjacent positions among the {num_inputs} inputs "
            f"(0..{num_inputs - 1}), in ascending order"
        )
    return indices


def check_feature_specs(specs: Any, owner: str) -> tuple[FeatureSpec, ...]:
    """Return the specs that a backbone or a neck publishes.

    Raises:
        TypeError: not a sequence of `FeatureSpec`.
        ValueError: none, or channels or a stride below 1.
    """
    valid = isinstance(specs, Sequence) and all(hasattr(s, "channels") and hasattr(s, "stride") for s in specs)
    if not valid:
        raise TypeError(
            f"{owner} publishes the specs {shown(specs)}; they must be a sequence of FeatureSpec(channels, stride), "
            "one for each map"
        )
    if not specs:
        raise ValueError(f"{owner} publishes no specs; it must publish FeatureSpec(channels, stride) of each map")
    for spec in specs:
        integer(f"{owner}: channels", spec.channels, 1)
        integer(f"{owner}: stride", spec.stride, 1)
    return tuple(specs)


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
