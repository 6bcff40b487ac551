"""Batches that are the same from any iteration on, and numbers that modules keep outside of their state dicts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset

from fpn_plugins.resuming import ModuleAttributes, NumberedBatches, PlainScripts, SeededItems, seed_all


class Noise(Dataset):
    """Items that depend on every generator."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> list[float]:
        return [index, random.random(), np.random.rand(), float(torch.rand(()))]


class Shuffled:
    """Sampler whose order depends on its epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[int]:
        yield from np.random.RandomState(self.epoch).permutation(5).tolist()


def loader(workers: int = 0, endless: bool = True, **options: Any) -> DataLoader:
    data, sampler = Noise(), Shuffled()
    data.__getitems__ = SeededItems(data, 7)
    batches = NumberedBatches(
        BatchSampler(sampler, 2, drop_last=False), endless=endless, set_epoch=sampler.set_epoch, **options
    )
    return DataLoader(data, batch_sampler=batches, num_workers=workers)


def first(loader: DataLoader, number: int) -> list[Any]:
    return [[part.tolist() for part in batch] for batch in itertools.islice(loader, number)]


def test_batches_are_the_same_from_any_iteration_on_and_with_any_number_of_workers() -> None:
    whole = first(loader(), 8)  # two epochs of three batches, and two of a third
    assert whole[0] != whole[3] and sorted(index for batch in whole[:3] for index in batch[0]) == list(range(5))
    assert whole[5:] == first(loader(skip=5), 3)
    assert whole[4:] == first(loader(workers=2, skip=4), 4)


def test_a_pass_skips_batches_once() -> None:
    batches = loader(endless=False, first=6, skip=1).batch_sampler
    iter(batches)  # a DataLoader begins an iterator that it does not use
    assert [batch.number for batch in batches] == [7, 8]
    assert [batch.number for batch in batches] == [6, 7, 8] and len(batches) == 3
    assert batches.drop_last is False  # of the batch sampler within


def test_an_endless_sampler_without_batches_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer images than one batch"):
        next(iter(NumberedBatches([], endless=True)))


def test_seeds_differ_by_every_number() -> None:
    drawn = set()
    for numbers in ((1, 2), (2, 1), (1, 2, 0), (12,)):
        seed_all(*numbers)
        drawn.add((random.random(), np.random.rand(), float(torch.rand(()))))
    assert len({part for entry in drawn for part in entry}) == 3 * 4


def test_scripts_are_not_optimized_during_a_training() -> None:
    """The optimized form of a script, from its third run on, rounds otherwise."""

    def function(x: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(x)
        return torch.where(x > 0, p * p * torch.log(p + 1e-3), torch.exp(-x * p) * p)

    script, x = torch.jit.script(function), torch.randn(1000)
    scripts = PlainScripts()
    scripts.start()
    outputs = [script(x) for _ in range(5)]
    assert not torch._C._get_graph_executor_optimize()
    scripts.stop()
    assert all(output.equal(outputs[0]) for output in outputs) and torch._C._get_graph_executor_optimize()


class Head(nn.Module):
    """A head like Detectron2's RetinaNet, whose normalizer is an attribute that the first iteration creates."""

    momentum = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.size, self.cached, self.history = 3, torch.ones(1), [1.0]

    def step(self) -> None:
        self.loss_normalizer = getattr(self, "loss_normalizer", 100) * self.momentum
        self.history = [*self.history, 2.0]


def test_attributes_that_training_changes_are_restored_and_others_not() -> None:
    trained = nn.Sequential(Head(), Head())
    state = ModuleAttributes(trained)
    assert state.state_dict() == []
    trained[1].step()
    trained.eval()
    saved = state.state_dict()
    assert saved == [["1", "history", [1.0, 2.0]], ["1", "loss_normalizer", 90.0]]
    fresh = nn.Sequential(Head(), Head())
    again = ModuleAttributes(fresh)
    again.load_state_dict([*saved, ["1", "forward", "x"], ["2", "size", 1], ["1", "cached", 1.0], ["1", "size", {}]])
    assert fresh[1].loss_normalizer == 90.0 and not hasattr(fresh[0], "loss_normalizer")
    assert fresh[1].size == 3 and fresh[1].cached.equal(torch.ones(1)) and callable(fresh[1].forward)
    assert again.state_dict() == saved  # the next checkpoint has them even if nothing changes
