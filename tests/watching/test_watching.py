"""Watching leaves no trace, divides images between processes, and names the levels of any detector."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
import seeds
import torch
from torch import Tensor, nn

from fpn_plugins.visualization.pyramid import pyramid_figure
from fpn_plugins.watching import (
    LevelMaps,
    Watched,
    assign_levels,
    compute_as_trained,
    displayable,
    draw_watched,
    is_one_stage,
    make_batches,
    mean_losses,
    mlflow_key,
    picture_name,
    record_levels,
    spread,
    undisturbed,
)


class Head(nn.Module):
    """A head with all that a training keeps: statistics, a running normalizer, dropout, random sampling."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.norm, self.drop, self.fc = nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
        self.normalizer = 1.0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert self.training
        self.normalizer = 0.9 * self.normalizer + 0.1 * float(images.mean())
        self.seen = self.seen + 1
        sampled = torch.randperm(images.shape[-1])[:2]
        np.random.rand(), random.random()
        return {"loss": self.fc(self.drop(self.norm(self.backbone(images))))[..., sampled].square().mean()}


def state_of(model: Head) -> list[Any]:
    buffers = [buffer.clone() for buffer in model.buffers()]
    numbers = [torch.rand(1), torch.tensor(np.random.rand()), torch.tensor(random.random())]
    modes = torch.tensor([module.training for module in model.modules()])
    return [*buffers, *numbers, modes, torch.tensor(model.normalizer)]


def test_losses_leave_no_trace_and_are_the_same_each_time() -> None:
    batches = [torch.randn(2, 3, 4, 8), torch.randn(1, 3, 4, 8)]
    states, found = [], []
    for watched in (False, True):
        seeds.seed(1)
        model = Head().train()
        model.norm.eval()  # as a frozen one
        if watched:

            def compute(images: Tensor, model: Head = model) -> dict[str, Tensor]:
                compute_as_trained(model, (model.backbone, None))
                assert not torch.is_grad_enabled()
                return model(images)

            found = [mean_losses(model, batches, [2, 1], compute) for _ in range(2)]
        states.append(state_of(model))
    assert found[0] == found[1] and set(found[0]) == {"loss"}
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_a_failure_restores_the_model() -> None:
    model = Head()
    before = model.norm.running_mean.clone()
    with pytest.raises(RuntimeError, match="stop"), undisturbed(model):
        model.eval()
        model.norm.running_mean += 1
        raise RuntimeError("stop")
    assert model.training and model.norm.training and torch.equal(model.norm.running_mean, before)


def test_heads_compute_losses_with_the_layers_of_the_evaluation() -> None:
    model = Head().eval()
    compute_as_trained(model, (model.backbone,))
    assert [name for name, module in model.named_modules() if module.training] == ["", "fc"]


@pytest.mark.parametrize(
    ("number", "limit", "size", "world"), [(10, 500, 4, 3), (1, 5, 2, 3), (7, 5, 2, 2), (8, 8, 4, 2)]
)
def test_processes_get_as_many_batches_and_each_image_counts_once(
    number: int, limit: int, size: int, world: int
) -> None:
    parts = [make_batches(number, limit, size, rank, world) for rank in range(world)]
    assert len({len(part.indices) for part in parts}) == 1
    counted = [
        index
        for part in parts
        for batch, weight in zip(part.indices, part.weights, strict=True)
        if weight
        for index in batch
    ]
    assert sorted(counted) == spread(number, limit)
    assert sum(sum(part.weights) for part in parts) == len(spread(number, limit))


def test_the_mean_is_over_the_images_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has three images with a loss of 4, and its last batch only keeps it in step."""

    def gather(found: list[Any], own: Any) -> None:
        found[:] = [own, ({"loss": 12.0}, 3)]

    for name, value in (("is_initialized", lambda: True), ("get_world_size", lambda: 2), ("all_gather_object", gather)):
        monkeypatch.setattr(torch.distributed, name, value)
    losses = mean_losses(Head(), [1.0, 2.0, 100.0], [2, 1, 0], lambda batch: {"loss": torch.tensor(batch)})
    assert losses == {"loss": pytest.approx((2 * 1 + 2 + 12) / 6)}


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="has no images"):
        make_batches(0, 5, 2)


class Plain(nn.Module):
    """A network with the outputs of a toolbox's backbone or neck."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Any) -> Any:
        return self.outputs


def test_levels_of_any_detector_are_named() -> None:
    maps = [torch.randn(2, 4, *size) for size in ((12, 16), (6, 8), (3, 4), (2, 2))]
    images = torch.zeros(2, 3, 96, 128)

    class Detector(nn.Module):
        def __init__(self, **parts: Any) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self) -> None:
            maps = self.backbone(images)
            if hasattr(self, "neck"):
                self.neck(maps)

    separate = Detector(backbone=Plain(tuple(maps[:3])), neck=Plain(tuple(maps)))
    named = Detector(backbone=Plain({"p3": maps[0], "p4": maps[1]}), roi_heads=nn.Identity())
    alone = Detector(backbone=Plain([maps[1], maps[1]]))
    expected = {
        separate: {"backbone": ["c3", "c4", "c5"], "neck": ["p3", "p4", "p5", "p6"]},
        named: {"backbone": ["p3", "p4"]},
        alone: {"backbone": ["c4", "c4 (2)"]},
    }
    for detector, names in expected.items():
        with record_levels(detector) as found:
            detector()
        assert {part: list(levels) for part, levels in found.rows.items()} == names
        assert found.input_size == (96, 128) and found.rows["backbone"][next(iter(names["backbone"]))].dim() == 3
        detector()
        assert not detector.backbone._forward_hooks
    assert is_one_stage(separate) and not is_one_stage(named)
    with pytest.raises(ValueError, match="has no backbone"), record_levels(nn.Identity()):
        pass


def test_levels_are_drawn_over_the_image_without_the_padding() -> None:
    image = np.full((48, 64, 3), 128, np.uint8)
    maps = LevelMaps({"neck": {"p3": torch.randn(4, 8, 8)}}, (128, 128))
    assert maps.covered_size((48, 64), (96, 128)) == (64.0, 64.0)
    figure = pyramid_figure(image, maps.rows, covered_size=(64.0, 64.0))
    axis = figure.axes[1]
    assert axis.images[1].get_extent() == [-0.5, 63.5, 63.5, -0.5] and axis.get_ylim() == (47.5, -0.5)


def test_pictures_of_an_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    truth = [{"bbox": [4, 4, 20, 20], "category_id": 0, "segmentation": [[4, 4, 24, 4, 24, 24]]}]
    found = [{"bbox": [5, 5, 20, 20], "category_id": 0, "score": 0.9}]
    maps = LevelMaps({"neck": {"p3": torch.randn(4, 8, 8)}}, (96, 128))
    watched = Watched(image, truth, found, {0: "disk"}, maps, (96, 128), True)
    pictures = draw_watched(watched)
    assert list(pictures) == ["detections", "levels"]
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in pictures.values())
    assert "level" not in found[0]
    without = draw_watched(watched._replace(found=None, maps=LevelMaps()))
    assert without == {}


def test_images_of_two_folders_have_pictures_of_their_own() -> None:
    taken: set[str] = set()
    assert [picture_name(path, taken) for path in ("a/1.png", "b/1.png", "c/1.jpg", "c/2.jpg")] == [
        "1",
        "1_2",
        "1_3",
        "2",
    ]
    assert len(picture_name("é" * 200 + ".png", taken).encode()) <= 200


def test_pictures_of_any_file_have_a_name_that_mlflow_takes() -> None:
    names = ["levels/a-1_b.c", "levels/IMG (1)", "levels/IMG [1]", "levels/é", "levels/ü", "levels/x\udce9:"]
    keys = [mlflow_key(name) for name in names]
    assert keys[0] == names[0] and len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", key) for key in keys)  # MLflow's own condition


def test_every_input_can_be_shown() -> None:
    blue = torch.zeros(3, 4, 6, dtype=torch.uint8)
    blue[0] = 255
    assert displayable(blue, (8, 12), reversed_channels=True)[0, 0].tolist() == [0, 0, 255]
    deep = displayable(torch.linspace(0, 60000, 24).view(1, 4, 6), (4, 6))
    assert deep.shape == (4, 6, 3) and deep.min() == 0 and deep.max() == 255
    assert displayable(torch.rand(4, 4, 6), (4, 6), reversed_channels=True).shape == (4, 6, 3)


def test_levels_follow_the_size_of_objects() -> None:
    objects = [{"bbox": [0, 0, 0, 0]}, {"bbox": [0, 0, 112, 112]}]
    assign_levels(objects, (2.0, 2.0), one_stage=False)
    assert [entry["level"] for entry in objects] == ["p2", "p4"]
