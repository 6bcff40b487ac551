"""Running mean of the weights, best checkpoint and early end of a training in Detectron2."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.detectron2


def average(model: nn.Module, **options: Any) -> Any:
    from fpn_plugins.adapters.detectron2.averaging import WeightAverage

    return WeightAverage(model, **{"momentum": 0.5, "gamma": 1, **options})


def trained(model: nn.Module, hook: Any, steps: int) -> None:
    for _ in range(steps):
        with torch.no_grad():
            model.weight.add_(1.0)
        hook.after_step()


def test_a_checkpoint_has_the_mean_and_resumes(tmp_path: Any):
    from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer

    class Trainer:
        """Holds the hook's state as Detectron2's trainer does."""

        def __init__(self, hook: Any) -> None:
            self.hook = hook

        def state_dict(self) -> dict[str, Any]:
            return {"hooks": self.hook.state_dict()}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.hook.load_state_dict(state["hooks"])

    def parts() -> tuple[nn.Module, Any, Any]:
        model = nn.Linear(1, 1, bias=False)
        hook = average(model)
        checkpointer = SafeCheckpointer(model, str(tmp_path), trainer=Trainer(hook))
        checkpointer.average = hook
        return model, hook, checkpointer

    torch.manual_seed(0)
    model, hook, checkpointer = parts()
    trained(model, hook, 3)
    mean = hook.mean["weight"].clone()
    checkpointer.save("model_0000002", iteration=2)
    assert float(mean) < float(model.weight)
    content = torch.load(tmp_path / "model_0000002.pth", weights_only=False)
    assert torch.equal(content["model"]["weight"], mean)
    resumed, again, loader = parts()
    loader.resume_or_load("", resume=True)
    assert torch.equal(resumed.weight, model.weight) and torch.equal(again.mean["weight"], mean)
    again.before_train()
    for pair in ((model, hook), (resumed, again)):
        trained(*pair, 2)
    assert torch.equal(again.mean["weight"], hook.mean["weight"])


def test_a_nested_context_changes_nothing():
    model = nn.Linear(1, 1)
    hook = average(model)
    trained(model, hook, 2)
    last = model.weight.detach().clone()
    with hook.apply():
        mean = model.weight.detach().clone()
        with hook.apply():
            assert torch.equal(model.weight, mean)
        assert torch.equal(model.weight, mean)
    assert torch.equal(model.weight, last) and not torch.equal(mean, last)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"momentum": 0}, ValueError, "momentum=0 must be above 0"),
        ({"momentum": "x"}, TypeError, "momentum='x' must be a number"),
        ({"gamma": 0}, ValueError, "gamma=0 must be at least 1"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        average(nn.Linear(1, 1), **options)


def test_the_best_weights_survive_a_training_that_is_resumed(tmp_path: Any):
    from fpn_plugins.adapters.detectron2.averaging import BestWeights
    from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer

    model = nn.Linear(1, 1, bias=False)

    def run(values: list[float], start: int = 0) -> None:
        hook: Any = BestWeights(1, SafeCheckpointer(model, str(tmp_path)), "bbox/AP")
        hook.trainer = SimpleNamespace(start_iter=start, max_iter=100)
        hook.before_train()
        for index, value in enumerate(values, start):
            model.weight.data.fill_(index)
            latest = {} if value is None else {"bbox/AP": (value, index)}
            hook.trainer.iter, hook.trainer.storage = index, SimpleNamespace(latest=lambda latest=latest: latest)
            hook.after_step()

    def kept() -> int:
        content = torch.load(tmp_path / "model_best.pth", weights_only=True)
        assert int(content["model"]["weight"]) == content["iteration"]
        return content["iteration"]

    run([math.nan, None, math.nan])  # nothing is found yet
    assert not (tmp_path / "model_best.pth").exists()
    run([math.nan, 1.0, 5.0, 4.0])
    assert kept() == 2
    run([3.0, 5.0], start=4)
    assert kept() == 2
    run([3.0, 6.0], start=4)
    assert kept() == 5
    run([1.0])  # another training
    assert kept() == 0


def stops_at(values: list[float], patience: int = 2, min_delta: float = 0.1) -> tuple[int, int] | None:
    """Evaluation at which the hooks of both toolboxes end the training, counted from 1; `None` if they do not."""
    from fpn_plugins.adapters.detectron2.averaging import EarlyStopping, StopTraining
    from fpn_plugins.adapters.mmdet import EarlyStoppingHook

    ours: Any = EarlyStopping(1, "bbox/AP", min_delta, patience)
    theirs = EarlyStoppingHook("bbox/AP", "greater", min_delta, patience=patience)
    found: list[int] = []
    for index, value in enumerate(values):
        storage = SimpleNamespace(latest=lambda value=value: {"bbox/AP": (value, 0)})
        ours.trainer = SimpleNamespace(iter=index, max_iter=100, storage=storage)
        try:
            ours.after_step()
        except StopTraining:
            found.append(index + 1)
            break
    loop, logger = SimpleNamespace(stop_training=False), logging.getLogger("test")
    for index, value in enumerate(0.0 if math.isnan(value) else value for value in values):
        theirs.after_val_epoch(SimpleNamespace(train_loop=loop, logger=logger), {"bbox/AP": value})
        if loop.stop_training:
            found.append(index + 1)
            break
    return (found[0], found[1]) if len(found) == 2 else None


@pytest.mark.mmdet
def test_a_training_ends_early_as_in_mmengine():
    assert stops_at([1.0, 2.0, 2.05, 2.0]) == (4, 4)
    assert stops_at([1.0, 2.0, 1.9, 2.2, 2.1, 2.1]) == (6, 6)
    assert stops_at([1.0, 2.0, 3.0, 4.0]) is None
    # a detector that finds nothing: no number in Detectron2, 0 by `fpn_plugins.CocoMetric`
    assert stops_at([1.0, math.nan, math.nan]) == (3, 3)
    assert stops_at([math.nan, math.nan, 1.0, 2.0, 3.0]) is None


@pytest.mark.mmdet
def test_evaluations_count_from_the_first_objects_on():
    assert stops_at([math.nan, 0.0, 0.05, 0.0, 0.06]) is None
    assert stops_at([0.0, 0.05, 0.0, 0.12, 0.0, 0.2]) == (6, 6)
