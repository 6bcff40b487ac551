"""Weights of the pyramid's levels in the loss of a dense head.

A dense detector adds up the losses of its levels:  L = sum_l L_l / normaliser.  With weights it is

    L = sum_l w_l L_l / normaliser

where L_l is everything that level l contributes, of its positive and of its negative anchors, and the normaliser (the
number of positive anchors of all levels) is that of the unweighted loss. Weights that are all 1 change nothing; doubled
weights double the loss. `fpn_plugins.data.balanced_level_weights` computes weights that keep the loss's scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def check_level_weights(level_weights: Sequence[float] | None, num_levels: int) -> tuple[float, ...] | None:
    """One weight per level, as floats; ``None`` and an empty sequence are ``None``, the unweighted loss.

    Args:
        level_weights: high to low resolution, none below 0 and not all 0.
        num_levels: levels of the head.

    Raises:
        ValueError: another number of weights than levels (names both), or a weight that is negative or not finite.
    """
    if level_weights is None or len(level_weights) == 0:
        return None
    weights = tuple(float(weight) for weight in level_weights)
    if len(weights) != num_levels:
        raise ValueError(
            f"level_weights={list(weights)} are {len(weights)} weights, the head has {num_levels} levels; "
            "give one per level, high to low resolution"
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"level_weights={list(weights)} must be finite, none below 0 and not all 0")
    return weights


def weigh_levels(losses: Sequence[Tensor], level_weights: Sequence[float]) -> list[Tensor]:
    """Each level's loss (any shape, usually a scalar) times its weight."""
    return [weight * loss for weight, loss in zip(level_weights, losses, strict=True)]
