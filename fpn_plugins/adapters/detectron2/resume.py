"""Hook under which an interrupted training in Detectron2 ends bit-equal to an uninterrupted one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.data.common import AspectRatioGroupedDataset, MapDataset, ToIterableDataset
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader

from ...resuming import ModuleAttributes, NumberedBatches, PlainScripts, SeededItems, differences, seed_all


class ExactResume(HookBase):
    """Resume a training so that it ends with the same weights, bit for bit, as if it had never stopped.

    Register it before ``resume_or_load``, as the first hook: ``trainer.register_hooks([ExactResume(seed)])``, with a
    `SimpleTrainer` or a `DefaultTrainer`. This package's ``train_net.py`` does so for ``FPN_PLUGINS_EXACT_RESUME=1``.
    Beyond what Detectron2 resumes, the hook makes the following follow from the seed and the iteration alone: order
    and position of the sampler, also with images grouped by their aspect ratio, the random numbers of every batch and
    of every iteration; and it stores numbers that modules keep as plain attributes, such as RetinaNet's normalizer.

    The weights differ from those of a training without the hook, because its random numbers differ. Not covered: other
    numbers of processes, data sets that are iterable only, precise BN, and ``torch.compile``.

    Args:
        seed: ``SEED`` or ``train.seed``; ``None`` and negative numbers draw one, which is stored.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = comm.shared_random_seed() if seed is None or seed < 0 else int(seed)
        self.saved: dict[str, Any] | None = None
        self.sampler_seed: int | None = None
        self.scripts = PlainScripts()

    def before_train(self) -> None:
        """Replace the trainer's loader by one whose batches follow from seed and iteration."""
        trainer: Any = getattr(self.trainer, "_trainer", self.trainer)
        saved, start = self.saved or {}, self.trainer.start_iter
        self.seed = int(saved.get("seed", self.seed))
        loader: Any = exact_loader(trainer.data_loader, (self.seed, comm.get_rank()), start, saved.get("sampler_seed"))
        sampler = loader.batch_sampler.sampler
        self.sampler_seed = getattr(sampler, "_seed", None)
        self.settings = {
            "world_size": comm.get_world_size(),
            "images": len(loader.dataset),
            "batch_size": loader.batch_sampler.batch_size,
        }
        if start and not saved:
            _logger().warning("The checkpoint was saved without ExactResume, so this resume is not exact.")
        elif start and (changed := differences(saved, self.settings)):
            _logger().warning("This resume is not exact: %s.", ", ".join(changed))
        trainer.data_loader, trainer._data_loader_iter_obj = loader, iter(loader)
        model = trainer.model.module if isinstance(trainer.model, DistributedDataParallel) else trainer.model
        self.attributes = ModuleAttributes(model)
        self.attributes.load_state_dict(saved.get("attributes", ()))
        self.scripts.start()

    def after_train(self) -> None:
        """End what began with the training."""
        self.scripts.stop()

    def before_step(self) -> None:
        """Seed the random numbers of an iteration."""
        seed_all(self.seed, comm.get_rank(), self.trainer.iter, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what cannot be computed again."""
        if not hasattr(self, "attributes"):  # before training
            return dict(self.saved or {})
        own = {"seed": self.seed, "sampler_seed": self.sampler_seed}
        return {**self.settings, **own, "attributes": self.attributes.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the state for the beginning of the training."""
        self.saved = dict(state)


class GroupedBatches:
    """Group indices into batches as Detectron2's ``AspectRatioGroupedDataset`` groups images, without reading them.

    Args:
        sampler: endless sampler.
        batch_size: number of images in a batch.
        is_wide: whether the image of an index is wider than high.
    """

    def __init__(self, sampler: Any, batch_size: int, is_wide: Callable[[int], bool]) -> None:
        self.sampler, self.batch_size, self.is_wide = sampler, batch_size, is_wide

    def __iter__(self) -> Iterator[list[int]]:
        groups: dict[bool, list[int]] = {True: [], False: []}
        known: dict[int, bool] = {}
        for index in self.sampler:
            if index not in known:
                known[index] = self.is_wide(index)
            group = groups[known[index]]
            group.append(index)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()


def exact_loader(loader: Any, seeds: tuple[int, ...], start: int, sampler_seed: int | None) -> DataLoader:
    """Build a loader like Detectron2's, which starts at a batch and draws random numbers by the batch's number.

    Args:
        loader: loader that ``build_detection_train_loader`` returns.
        seeds: numbers that the random numbers of all batches depend on.
        start: number of batches to skip, without reading them.
        sampler_seed: seed of the sampler's order; ``None`` keeps it.

    Raises:
        ValueError: a loader of another kind, whose order cannot be repeated.
    """
    collate, grouped, inner = None, None, loader
    if type(inner).__name__ == "_MapIterableDataset":  # a function that collates groups
        collate, inner = inner._map_func, inner._dataset
    if isinstance(inner, AspectRatioGroupedDataset):
        grouped, inner = inner, inner.dataset
    items = getattr(inner, "dataset", None)
    sampler = getattr(items, "sampler", None)
    if not isinstance(inner, DataLoader) or not isinstance(items, ToIterableDataset) or sampler is None:
        raise ValueError(
            f"the train loader is a {type(loader).__name__} of a {type(items).__name__}; exact resume needs the loader "
            "of detectron2.data.build_detection_train_loader and a data set with indices"
        )
    if sampler_seed is not None:
        sampler._seed = sampler_seed
    dataset = items.dataset
    batches: Any = BatchSampler(sampler, inner.batch_size or 1, drop_last=True)
    if grouped is not None:
        batches = GroupedBatches(sampler, grouped.batch_size, lambda index: _is_wide(dataset, index))
        collate = collate or list
    dataset.__getitems__ = SeededItems(dataset, *seeds)
    return DataLoader(
        dataset,
        batch_sampler=NumberedBatches(batches, skip=start, endless=True),  # type: ignore[arg-type]
        num_workers=inner.num_workers,
        collate_fn=collate or inner.collate_fn,
        worker_init_fn=inner.worker_init_fn,
        pin_memory=inner.pin_memory,
        timeout=inner.timeout,
        multiprocessing_context=inner.multiprocessing_context,
        prefetch_factor=inner.prefetch_factor,
    )


def _is_wide(dataset: Any, index: int) -> bool:
    while isinstance(dataset, MapDataset):
        dataset = dataset._dataset
    entry = dataset[index]
    return bool(entry["width"] > entry["height"])


def _logger() -> logging.Logger:
    return logging.getLogger("detectron2.fpn_plugins")
