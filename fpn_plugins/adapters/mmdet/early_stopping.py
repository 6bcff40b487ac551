"""End a training early in MMDetection, but not before the detector has found its first objects."""

from __future__ import annotations

from typing import Any

from mmengine import hooks

from ...registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(hooks.EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook``, all of its arguments; evaluations count from the first good one on.

    A detector with a new head finds nothing for a while, longer with small objects and with a running mean of the
    weights. mmengine's hook counts these evaluations and can end a training before it has begun. Here, with
    ``rule="greater"``, an evaluation below ``min_delta`` does not count until one has reached it.
    """

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Compare an evaluation with the best one."""
        value = (metrics or {}).get(self.monitor)
        if self.rule == "greater" and self.best_score < self.min_delta and value is not None and value < self.min_delta:
            return
        super().after_val_epoch(runner, metrics)
