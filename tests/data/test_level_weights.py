"""Weights of the levels against numbers worked out by hand, and the rule of assignment against RetinaNet's anchors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpn_plugins.data import balanced_level_weights, level_weight_report, retinanet_level
from fpn_plugins.data.level_weights import level_anchor_sizes, nearest_anchor_level

# 50 px is nearer to p3's largest anchor, 50.8, than to p4's smallest, 64
SIDES = (20, 40, 50, 100, 800)


@pytest.fixture
def ann_file(tmp_path: Path) -> Path:
    """One object of each side, on an image of 2000 x 1000 px."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, side, side], "area": side**2}
        for i, side in enumerate(SIDES, start=1)
    ]
    crowd = {"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 99, 99], "area": 9801, "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 2000, "height": 1000}],
        "annotations": [*annotations, {**crowd, "segmentation": {"size": [1000, 2000], "counts": [2000000]}}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def objects_of(report: dict[str, Any]) -> list[int]:
    return [level["objects"] for level in report["levels"]]


def test_default_anchors_match_retinanet() -> None:
    sizes = level_anchor_sizes()
    assert [level[0] for level in sizes] == [32, 64, 128, 256, 512]
    assert sizes[0] == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": [16, 8]}, "must ascend"),
        ({"strides": []}, "must ascend"),
        ({"octave_base_scale": 0}, "must be above 0"),
        ({"scales_per_octave": 0}, "at least 1"),
    ],
)
def test_impossible_anchors_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        level_anchor_sizes(**arguments)


def test_one_anchor_per_octave_is_the_level_of_the_statistics() -> None:
    width, height = np.random.default_rng(0).uniform(1, 1500, size=(2, 500))
    borders = np.sqrt(2) * 32 * 2.0 ** np.arange(4)
    width, height = np.concatenate([width, borders]), np.concatenate([height, borders])
    ours = nearest_anchor_level(width, height, level_anchor_sizes(scales_per_octave=1))
    inside = np.ones(len(width), bool)
    inside[-4:] = False  # the root of two is rounded, so that its side of the border is not defined
    assert ((ours + 3) == retinanet_level(width, height))[inside].all()
    assert nearest_anchor_level([32], [64], level_anchor_sizes(scales_per_octave=1)).tolist() == [
        1
    ]  # exactly in the middle


@pytest.mark.mmdet
def test_the_nearest_anchor_has_the_largest_overlap() -> None:
    """The stated reason for the rule: the level that mmdet's IoU prefers, for boxes of ordinary shape and size."""
    import torch
    from mmdet.models.task_modules import AnchorGenerator
    from mmdet.structures.bbox import bbox_overlaps

    strides = [8, 16, 32, 64, 128]
    generator = AnchorGenerator(strides=strides, ratios=[0.5, 1, 2], octave_base_scale=4, scales_per_octave=3)
    levels = generator.grid_priors([(1024 // stride, 1024 // stride) for stride in strides], device="cpu")
    position = torch.cat([torch.full((len(level),), i) for i, level in enumerate(levels)])
    rng = np.random.default_rng(0)
    side, ratio = 2 ** rng.uniform(np.log2(30), np.log2(600), 300), 2 ** rng.uniform(-1, 1, 300)
    width, height = side * ratio**0.5, side / ratio**0.5
    left, top = rng.uniform(0, 1024 - width), rng.uniform(0, 1024 - height)
    boxes = torch.tensor(np.stack([left, top, left + width, top + height], axis=1), dtype=torch.float32)
    best = position[bbox_overlaps(boxes, torch.cat(levels)).argmax(dim=1)].numpy()
    ours = nearest_anchor_level(width, height, level_anchor_sizes(strides))
    assert (best == ours).mean() > 0.9 and abs(best - ours).max() == 1


def test_formula_by_hand() -> None:
    # shares 3/4 and 1/4: 1 / share is 4/3 and 4, whose mean over the objects is 2
    assert balanced_level_weights([3, 1], exponent=1, smoothing=0) == pytest.approx([2 / 3, 2])
    # half of the uniform distribution: 5/8 and 3/8, so 8/5 and 8/3, mean 6/5 + 2/3 = 28/15
    assert balanced_level_weights([3, 1], exponent=1, smoothing=0.5) == pytest.approx([6 / 7, 10 / 7])
    assert balanced_level_weights([3, 1], exponent=0) == pytest.approx([1, 1])
    assert balanced_level_weights([3, 1], exponent=2, smoothing=1) == pytest.approx([1, 1])


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2])
def test_the_mean_over_the_objects_is_one(exponent: float) -> None:
    counts = np.array([700, 200, 60, 40, 0])
    weights = np.array(balanced_level_weights(counts.tolist(), exponent))
    assert counts @ weights / counts.sum() == pytest.approx(1)
    assert (np.diff(weights) >= 0).all()  # fewer objects, more weight


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0],), "at least one object"),
        (([],), "at least one object"),
        (([2, -1],), "at least one object, and none below 0"),
        (([2, 1], -1), "exponent=-1"),
        (([2, 1], 1, 1.5), "smoothing=1.5"),
        (([2, 0], 1, 0), "an empty level has no inverse frequency; set smoothing"),
    ],
)
def test_impossible_weights_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_level_weights(*arguments)


def test_report_of_known_objects(ann_file: Path) -> None:
    report = level_weight_report(ann_file, resize=None)
    assert objects_of(report) == [3, 1, 0, 0, 1] and report["objects"] == 5
    assert [level["level"] for level in report["levels"]] == ["p3", "p4", "p5", "p6", "p7"]
    assert [level["weight"] for level in report["levels"]] == balanced_level_weights([3, 1, 0, 0, 1])
    assert json.loads(json.dumps(report)) == report


def test_objects_are_counted_at_the_training_size(ann_file: Path) -> None:
    # a shorter side of 2000 px doubles every object: 40, 80, 100, 200, 1600
    assert objects_of(level_weight_report(ann_file, resize=(2000, 4000))) == [1, 2, 1, 0, 1]
    # the limit of the longer side keeps the image as it is
    assert objects_of(level_weight_report(ann_file, resize=(2000, 2000))) == [3, 1, 0, 0, 1]


def test_no_objects_are_an_error(ann_file: Path) -> None:
    content = json.loads(ann_file.read_text())
    content["annotations"] = content["annotations"][-1:]
    ann_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds no object"):
        level_weight_report(ann_file)
