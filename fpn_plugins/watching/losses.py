"""Compute the mean losses of a model on a validation set, in one or several processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import nn

from ..checks import positive_int
from ..resuming import seed_all
from ..sharding import whole_parameters
from .undisturbed import undisturbed


class Batches(NamedTuple):
    """Batches of one process.

    Attributes:
        indices: images of each batch, a batch sampler.
        weights: number of images of each batch that count; 0 for a batch that only keeps processes in step.
    """

    indices: list[list[int]]
    weights: list[int]


def spread(number: int, limit: int) -> list[int]:
    """Choose at most ``limit`` of ``number`` images, evenly spaced and in order, always the same."""
    limit = min(positive_int("limit", limit), number)
    return [(2 * index + 1) * number // (2 * limit) for index in range(limit)]


def make_batches(number: int, limit: int, batch_size: int, rank: int = 0, world_size: int = 1) -> Batches:
    """Divide images between processes so that each gets as many batches, because heads may exchange sums of a batch.

    Args:
        number: images of the data set.
        limit: most images to use, see `spread`.
        batch_size: images per batch and process; the last one may have fewer.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: no images, or a number below 1.
    """
    positive_int("batch_size", batch_size)
    if not number:
        raise ValueError("the validation set has no images; validation losses need one at least")
    chosen = spread(number, limit)
    own = chosen[rank::world_size]
    indices = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    weights = [len(batch) for batch in indices]
    missing = -(-len(chosen[::world_size]) // batch_size) - len(indices)
    return Batches([*indices, *[chosen[:1]] * missing], [*weights, *[0] * missing])


def mean_losses(
    model: nn.Module,
    loader: Iterable[Any],
    weights: Iterable[int],
    compute: Callable[[Any], Mapping[str, Any]],
    seed: int = 0,
) -> dict[str, float]:
    """Average losses over batches, weighted by their images, in all processes; the model is `undisturbed`.

    Heads that sample regions at random sample alike in every call, because random numbers are seeded per batch.

    Args:
        model: model in training, whole or sharded.
        loader: batches, read from the beginning in each call.
        weights: weight of each batch, see `Batches`.
        compute: returns the losses of a batch by name, numbers or tensors of one; it may change the model's mode.
        seed: seed of the random numbers.

    Returns:
        Mean of each loss, the same in all processes.
    """
    sums: dict[str, float] = defaultdict(float)
    total = 0
    with whole_parameters(model), undisturbed(model):
        batches = iter(loader)
        for number, weight in enumerate(weights):
            seed_all(seed, number)
            for name, value in compute(next(batches)).items():
                sums[name] += weight * float(value)
            total += weight
    found: list[Any] = [(dict(sums), total)]
    if dist.is_available() and dist.is_initialized():
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, (dict(sums), total))
    names = dict.fromkeys(name for part, _ in found for name in part)
    images = sum(count for _, count in found)
    return {name: sum(part.get(name, 0.0) for part, _ in found) / images for name in names}
