"""Make a training repeatable from any iteration, so that an interrupted one ends bit-equal to an uninterrupted one.

A checkpoint cannot hold the state of data workers, which read ahead. So nothing random is stored: with the classes of
this module, every random number depends on the seed and on the number of its iteration or batch alone. A resumed
training computes the same numbers without the history before it, with any number of workers.

The hooks `fpn_plugins.adapters.mmdet.ExactResumeHook` and `fpn_plugins.adapters.detectron2.ExactResume` apply them.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .extras import needed_for

with needed_for("resumed trainings"):
    import numpy as np

_PLAIN = (bool, int, float, str, type(None))


def seed_all(*numbers: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch (all devices) with a hash of ``numbers``."""
    seed = int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class PlainScripts:
    """Run TorchScript functions as they are written, and not optimized after their first runs, which rounds otherwise.

    Detectron2's focal loss is one. `start` and `stop` enclose a training, in its own thread.
    """

    def start(self) -> None:
        """Turn optimization off."""
        self._context = torch.jit.optimized_execution(False)
        self._context.__enter__()

    def stop(self) -> None:
        """Turn it on again."""
        self._context.__exit__(None, None, None)


class NumberedBatch(list[int]):
    """Indices of a batch, with the batch's number in the training, counted from 0.

    Attributes:
        number: number of the batch.
    """

    def __init__(self, indices: Iterable[int], number: int) -> None:
        super().__init__(indices)
        self.number = number


class NumberedBatches:
    """Batch sampler that numbers the batches of another one, and skips batches without reading their data.

    Args:
        batches: batch sampler, whose order must depend on its seed and epoch alone.
        first: number of the first batch of the next pass, the skipped ones included.
        skip: how many batches of the next pass to skip.
        endless: begin again after the last batch, in the next epoch.
        set_epoch: called with the number of the epoch, from 0, before each pass of an endless sampler.

    Other attributes are those of ``batches``.
    """

    def __init__(
        self,
        batches: Any,
        first: int = 0,
        skip: int = 0,
        endless: bool = False,
        set_epoch: Callable[[int], object] = lambda epoch: None,
    ) -> None:
        self.batches, self.first, self.skip = batches, first, skip
        self.endless, self.set_epoch = endless, set_epoch

    def __iter__(self) -> Iterator[NumberedBatch]:
        # a generator, because a DataLoader begins an iterator that it does not use
        passes = map(self._pass, itertools.count()) if self.endless else iter([iter(self.batches)])
        numbered = enumerate(itertools.chain.from_iterable(passes), self.first)
        skip, self.skip = self.skip, 0
        for number, batch in itertools.islice(numbered, skip, None):
            yield NumberedBatch(batch, number)

    def _pass(self, epoch: int) -> Iterator[Any]:
        self.set_epoch(epoch)
        empty = True
        for batch in self.batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("the batch sampler yields no batch; the data set has fewer images than one batch")

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == "batches":  # while unpickling
            raise AttributeError(name)
        return getattr(self.batches, name)


class SeededItems:
    """Fetch the items of a `NumberedBatch` after seeding with its number; assigned as ``dataset.__getitems__``.

    Args:
        dataset: data set with ``__getitem__``.
        seeds: numbers to seed with, besides the batch's.
    """

    def __init__(self, dataset: Any, *seeds: int) -> None:
        self.dataset, self.seeds = dataset, seeds

    def __call__(self, batch: NumberedBatch) -> list[Any]:
        """Return the items of a batch."""
        seed_all(*self.seeds, batch.number)
        return [self.dataset[index] for index in batch]


class ModuleAttributes:
    """Numbers that modules keep outside of the state dict and change in training, such as running normalizers.

    Args:
        model: model before the first iteration, which changes are compared with.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.initial = dict(self._all())

    def _all(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for name, module in self.model.named_modules():
            for key, value in vars(module).items():
                if key != "training" and _is_plain(value):
                    yield (name, key), value

    def state_dict(self) -> list[list[Any]]:
        """Return module, attribute and value of every number, string, or list of them that has changed."""
        return [
            [*place, value]
            for place, value in self._all()
            if place not in self.initial or not _equal(self.initial[place], value)
        ]

    def load_state_dict(self, state: Iterable[Iterable[Any]]) -> None:
        """Set the attributes that `state_dict` has returned; those of modules that no longer exist are skipped."""
        modules = dict(self.model.named_modules())
        for name, key, value in state:
            module = modules.get(name)
            current = vars(module).get(key) if module is not None else None
            if module is not None and _is_plain(current) and _is_plain(value) and not hasattr(type(module), key):
                setattr(module, key, value)


def _is_plain(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(type(part) in _PLAIN for part in value)  # type: ignore[attr-defined]
    return type(value) in _PLAIN


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Describe in which of their common settings two trainings differ."""
    return [f"{key} was {saved[key]}, now {current[key]}" for key in current if saved.get(key) != current[key]]
