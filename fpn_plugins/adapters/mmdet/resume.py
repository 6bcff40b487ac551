"""Hook under which an interrupted training in MMDetection ends bit-equal to an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from ...registry import HOOKS
from ...resuming import ModuleAttributes, NumberedBatches, PlainScripts, SeededItems, differences, seed_all

KEY = "fpn_plugins_exact_resume"


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Resume a training so that it ends with the same weights, bit for bit, as if it had never stopped.

    Add ``custom_hooks = [dict(type='fpn_plugins.ExactResumeHook')]`` to a config, for mmdet's own ``tools/train.py``
    too; this package's adds it for ``FPN_PLUGINS_EXACT_RESUME=1``. Checkpoints must be written by
    ``CheckpointHook`` with its optimizer. Beyond what mmengine resumes, the hook makes the following follow from the
    seed and the iteration alone: order and position of the sampler, the random numbers of every batch (in the workers)
    and of every iteration (in the main process), and it stores numbers that modules keep as plain attributes. A
    validation that was due at the checkpoint is run first, because schedulers may depend on it.

    The weights differ from those of a training without the hook, because its random numbers differ. Not covered: other
    numbers of processes, transforms that keep images of earlier batches (``CachedMosaic``), ``EarlyStoppingHook``,
    ``torch.compile``, and operations without a deterministic form (``randomness=dict(deterministic=True)`` refuses
    them).
    """

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}
        self.validated = -1
        self.resumed = False
        self.scripts = PlainScripts()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep what the hook stored in a checkpoint that the training resumes from."""
        if runner._resume:
            self.saved, self.resumed = dict(checkpoint.get(KEY) or {}), True

    def before_train(self, runner: Any) -> None:
        """Replace the order of the data by one that follows from seed and iteration."""
        loop = runner.train_loop
        loader, sampler = loop.dataloader, _sampler(loop.dataloader)
        if hasattr(sampler, "seed"):
            sampler.seed = self.saved.get("sampler_seed", sampler.seed)
        if hasattr(sampler, "_indices_of_rank"):  # an infinite sampler, which reading ahead may have advanced
            sampler.indices = sampler._indices_of_rank()
        self.seeds = (int(self.saved.get("seed", runner.seed)), get_rank())
        self.settings = {"world_size": get_world_size(), "batch_size": getattr(loader.batch_sampler, "batch_size", 0)}
        if self.resumed:
            self._warn(runner)
        endless = isinstance(loop, IterBasedTrainLoop)
        batches = NumberedBatches(loader.batch_sampler, endless=endless, set_epoch=getattr(sampler, "set_epoch", _pass))
        vars(loader)["batch_sampler"] = self.batches = batches  # a DataLoader refuses to replace it otherwise
        loader.dataset.__getitems__ = SeededItems(loader.dataset, *self.seeds)
        if endless:
            batches.skip = loop.iter
            loop.dataloader_iterator = _Endless(loader, loop)
        self.attributes = ModuleAttributes(_model(runner))
        self.attributes.load_state_dict(self.saved.get("attributes", ()))
        self.scripts.start()

    def after_train(self, runner: Any) -> None:
        """End what began with the training."""
        self.scripts.stop()

    def before_train_epoch(self, runner: Any) -> None:
        """Skip the batches of an epoch that were trained on, and validate if the checkpoint lacks a due validation."""
        loop = runner.train_loop
        if not self.batches.endless:
            self.batches.first = loop.epoch * len(loop.dataloader)
            self.batches.skip = loop.iter - self.batches.first
        resumed, self.resumed = self.resumed, False
        if resumed and self.saved.get("validated") != loop.iter and self._validates(loop):
            runner.logger.info("The validation that was due at the checkpoint runs first.")
            runner.val_loop.run()
            runner.model.train()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random numbers of an iteration."""
        seed_all(*self.seeds, runner.iter, 1)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Note the iteration of a validation."""
        self.validated = runner.iter

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Store what cannot be computed again."""
        if hasattr(self, "attributes"):
            checkpoint[KEY] = {
                **self.settings,
                "seed": self.seeds[0],
                "sampler_seed": getattr(_sampler(runner.train_dataloader), "seed", None),
                "validated": self.validated,
                "attributes": self.attributes.state_dict(),
            }

    def _warn(self, runner: Any) -> None:
        if not self.saved:
            runner.logger.warning("The checkpoint was saved without ExactResumeHook, so this resume is not exact.")
        elif changed := differences(self.saved, self.settings):
            runner.logger.warning("This resume is not exact: %s.", ", ".join(changed))

    def _validates(self, loop: Any) -> bool:
        loop._decide_current_val_interval()
        by_iter = self.batches.endless
        done, end = (loop.iter, loop.max_iters) if by_iter else (loop.epoch, loop.max_epochs)
        if loop.runner.val_loop is None or done == 0 or (not by_iter and self.batches.skip):
            return False
        return bool(done >= loop.val_begin and (done % loop.val_interval == 0 or done == end))


class _Endless:
    """Batches of an iteration-based loop; its loader skips those before the first iteration itself."""

    def __init__(self, loader: Any, loop: Any) -> None:
        self.loader = loader
        self.iterator: Iterator[Any] | None = None
        # older versions of mmengine take that many batches before they begin
        self.ignored = 0 if hasattr(loop.dataloader_iterator, "skip_iter") else loop.iter

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.ignored:
            self.ignored -= 1
            return None
        self.iterator = self.iterator or iter(self.loader)
        return next(self.iterator)

    def skip_iter(self, number: int) -> None:
        """Do nothing, because the loader skips them."""


def _pass(epoch: int) -> None: ...


def _sampler(loader: Any) -> Any:
    """Return the sampler that orders a loader's images; with a batch sampler of its own, a loader does not hold it."""
    return getattr(loader.batch_sampler, "sampler", loader.sampler)


def _model(runner: Any) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
