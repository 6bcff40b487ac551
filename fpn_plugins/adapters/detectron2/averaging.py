"""Average the weights in training, keep the best ones, and end early, with hooks of Detectron2's trainers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from ...checks import number, positive_int
from ...sharding import is_sharded
from ...weights.archives import check_torch


class WeightAverage(HookBase):
    """Keep a running mean of the weights, which is evaluated and saved in place of the last weights.

    The mean is that of mmdet's ``ExpMomentumEMA``: after step ``t``, counted from 0, it moves towards the weights by
    the momentum ``(1 - momentum) * exp(-(1 + t) / gamma) + momentum``; the first step copies them. Buffers are not
    averaged.

    A checkpoint has the mean as ``model``, and the last weights in the state of this hook, from which a training
    resumes.

    Args:
        model: model in training.
        momentum: momentum after many steps, above 0 and at most 1.
        gamma: number of steps in which the momentum falls from 1.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of range.
    """

    def __init__(self, model: nn.Module, momentum: float, gamma: int) -> None:
        if not 0 < number("train.ema momentum", momentum) <= 1:
            raise ValueError(f"train.ema momentum={momentum} must be above 0 and at most 1")
        self.momentum, self.gamma = momentum, positive_int("train.ema gamma", gamma)
        if is_sharded(model):
            raise ValueError("train.ema does not cover sharded models; disable it or train.fsdp")
        self.parameters = {name.removeprefix("module."): value for name, value in model.named_parameters()}
        self.mean = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.steps, self.applied = 0, False

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the mean towards the weights."""
        part = (1 - self.momentum) * math.exp(-(1 + self.steps) / self.gamma) + self.momentum
        for name, value in self.parameters.items():
            if value.requires_grad:
                self.mean[name].lerp_(value, part if self.steps else 1.0)
        self.steps += 1

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Put the mean into the model while the context lasts; a nested context changes nothing."""
        if self.applied:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.parameters.items():
            kept = value.clone()
            value.copy_(self.mean[name])
            self.mean[name].copy_(kept)
        self.applied = not self.applied

    def state_dict(self) -> dict[str, Any]:
        """Return the last weights and the number of steps; the checkpointer saves the mean as the model's weights."""
        last = self.mean if self.applied else self.parameters
        return {"weights": {name: value.detach().clone() for name, value in last.items()}, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the mean from the model, which has been loaded, and the last weights from ``state``."""
        weights: Mapping[str, Tensor] = state["weights"]
        for name, value in self.parameters.items():
            self.mean[name].copy_(value)
            value.copy_(weights[name])
        self.steps = int(state["steps"])

    def before_train(self) -> None:
        """Begin with the weights that have been loaded."""
        if not self.steps:
            self.mean = {name: value.detach().clone() for name, value in self.parameters.items()}


class BestWeights(HookBase):
    """Keep the weights with the highest metric in ``model_best.pth``, like Detectron2's ``BestCheckpointer``.

    Detectron2's hook forgets the best value when a training is resumed, and the next evaluation replaces the file. This
    one stores the value in the file. Register it after the hook that evaluates, in all processes: they save a sharded
    model together.

    Args:
        period: iterations between evaluations; the last iteration is one, too.
        checkpointer: checkpointer of the training.
        metric: name of the metric, such as ``"bbox/AP"``.
    """

    name, key = "model_best", "best_metric"

    def __init__(self, period: int, checkpointer: Any, metric: str) -> None:
        self.period, self.checkpointer, self.metric = positive_int("train.eval_period", period), checkpointer, metric
        self.best = -math.inf

    def before_train(self) -> None:
        """Take the best value from the file if the training goes on."""
        path = Path(self.checkpointer.save_dir, f"{self.name}.pth")
        if self.trainer.start_iter and path.is_file():
            try:
                self.best = float(check_torch(path)[1][self.key])
            except Exception as error:  # files are damaged in many ways
                _logger().warning("%s has no best value (%r): the next evaluation replaces it", path, error)
        self.best = comm.all_gather(self.best)[0]

    def after_step(self) -> None:
        """Compare after an evaluation; the last one is compared in `after_train`."""
        done = self.trainer.iter + 1
        if done % self.period == 0 and done != self.trainer.max_iter:
            self._compare()

    def after_train(self) -> None:
        """Compare after the last evaluation."""
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._compare()

    def _compare(self) -> None:
        # the first process alone evaluates
        value, iteration = comm.all_gather(self.trainer.storage.latest().get(self.metric, (math.nan, 0)))[0]
        if not math.isfinite(value):
            _logger().warning("%s has no value: no weights are kept as the best", self.metric)
        elif value > self.best:
            _logger().info("%s is %.3f: the best weights so far", self.metric, value)
            self.best = float(value)
            self.checkpointer.save(self.name, iteration=iteration, **{self.key: self.best})


class StopTraining(BaseException):  # Detectron2's trainer logs an `Exception` as a failure
    """End a training early; the hooks run as after the last iteration."""


class EarlyStopping(HookBase):
    """End a training when a metric has not risen for some evaluations, as mmengine's ``EarlyStoppingHook`` does.

    Evaluations below ``min_delta`` do not count until one has reached it: a detector with a new head finds nothing for
    a while. Register it after the hook that evaluates.

    Args:
        period: iterations between evaluations.
        metric: name of the metric, such as ``"bbox/AP"``, from 0 to 100.
        min_delta: a rise by less does not count.
        patience: evaluations without a rise after which the training ends.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of range.
    """

    def __init__(self, period: int, metric: str, min_delta: float, patience: int) -> None:
        self.period, self.metric = positive_int("train.eval_period", period), metric
        self.min_delta = number("train.early_stopping min_delta", min_delta, 0)
        self.patience = positive_int("train.early_stopping patience", patience)
        self.best, self.waited = -math.inf, 0

    def after_step(self) -> None:
        """Compare the latest evaluation with the best one."""
        done = self.trainer.iter + 1
        if done % self.period or done == self.trainer.max_iter:
            return
        # the first process alone evaluates
        found = comm.all_gather(self.trainer.storage.latest().get(self.metric))[0]
        # Detectron2's AP of a detector that finds nothing is no number
        value = None if found is None else 0.0 if math.isnan(found[0]) else found[0]
        if value is None or max(value, self.best) < self.min_delta:
            return
        if value >= self.best + self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            _logger().info("%s has not risen in %d evaluations: training ends", self.metric, self.waited)
            raise StopTraining

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the number of evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best, self.waited = state["best"], state["waited"]


def average_of(train: Any, model: nn.Module) -> WeightAverage | None:
    """Build the hook of ``train.ema`` of a LazyConfig; ``None`` without it."""
    settings = train.get("ema")
    return WeightAverage(model, **settings) if settings else None


def selection_hooks(train: Any, checkpointer: Any) -> list[HookBase]:
    """Build the hooks of a LazyConfig's ``train.best_checkpoint`` and ``train.early_stopping``, to follow `EvalHook`.

    Args:
        train: ``train`` of the config.
        checkpointer: checkpointer of the training.
    """
    best, stopping = train.get("best_checkpoint"), train.get("early_stopping")
    found: list[HookBase] = []
    if best:
        found.append(BestWeights(train.eval_period, checkpointer, best["metric"]))
    if stopping:
        found.append(EarlyStopping(train.eval_period, **stopping))
    return found


def _logger() -> logging.Logger:
    return logging.getLogger("detectron2.fpn_plugins")
