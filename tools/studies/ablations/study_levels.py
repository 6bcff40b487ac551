"""Levels of a study's variants, read from the modules themselves, and the anchor sizes on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from study_design import Variant

from fpn_plugins.analysis import build_pyramid, on_meta
from fpn_plugins.features import FeatureSpec

# octaves of anchor sizes that every variant has, whatever its number of levels
ANCHOR_OCTAVES = 5


def head_levels(variant: Variant) -> tuple[FeatureSpec, ...]:
    """Channels and strides of the maps that the head of a variant sees.

    Raises:
        ValueError: backbone and neck do not fit together, or the neck lacks one of the levels.
    """
    pyramid = _on_meta(variant)
    specs = pyramid.neck.out_specs(pyramid.backbone.feature_specs)
    chosen = tuple(range(len(specs))) if variant.levels is None else variant.levels
    if not chosen or not set(chosen) <= set(range(len(specs))):
        raise ValueError(f"variant {variant.name!r}: levels={list(chosen)} must be of 0..{len(specs) - 1}")
    return tuple(specs[position] for position in chosen)


def backbone_levels(variant: Variant) -> tuple[FeatureSpec, ...]:
    """Channels and strides of the maps that the neck of a variant reads."""
    return tuple(_on_meta(variant).backbone.feature_specs)


def _on_meta(variant: Variant) -> Any:
    backbone = _without_weights(variant.backbone)
    return on_meta(lambda: build_pyramid(backbone, variant.neck))


def _without_weights(config: Any) -> Any:
    if isinstance(config, Mapping):
        weights = ("checkpoint", "pretrained")
        return {key: _without_weights(value) for key, value in config.items() if key not in weights}
    return config


def shared_anchor_sizes(num_levels: int, smallest: float, per_octave: int) -> list[list[float]]:
    """Choose the anchor sizes of each level so that any number of levels has the same set of sizes.

    The set is ``ANCHOR_OCTAVES`` octaves from ``smallest`` on, one octave per level if there are as many levels. With
    fewer levels, each has several octaves and neighbors share some, because a head that is shared by the levels needs
    equally many anchors on each: of three levels, the first has octaves 0-2, the second 1-3, the third 2-4.

    Args:
        num_levels: number of levels.
        smallest: side of the smallest anchor in pixels.
        per_octave: sizes per octave.

    Returns:
        Sides of the square anchors of each level in pixels.

    Raises:
        ValueError: more levels than octaves.
    """
    if not 1 <= num_levels <= ANCHOR_OCTAVES:
        raise ValueError(f"num_levels={num_levels} must be 1 to {ANCHOR_OCTAVES}, the number of anchor octaves")
    share = ANCHOR_OCTAVES - num_levels + 1
    steps = [step / per_octave for step in range(share * per_octave)]
    return [[smallest * 2 ** (level + step) for step in steps] for level in range(num_levels)]
