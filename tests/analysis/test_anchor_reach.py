"""Coverage of objects by anchors, against cases counted by hand and against torchvision's overlaps."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from fpn_plugins.analysis import anchor_reach


def coco_file(path: Path, *boxes: tuple[float, float, float, float], crowd: int = 0) -> Path:
    """An image of 64 x 96 pixels with these boxes, left, top, width, height, and one crowd region."""
    annotations = [
        {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for k, box in enumerate(boxes)
    ]
    annotations.append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1})
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 64, "width": 96},
            {"id": 2, "file_name": "empty.png", "height": 64, "width": 96},
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_an_anchor_equal_to_the_object_covers_it(tmp_path: Path):
    path = coco_file(tmp_path / "a.json", (24, 24, 16, 16))  # center 32, 32: a multiple of 16
    reach = anchor_reach(path, [16], [[16.0]], ratios=[1.0])["small"]
    assert reach.objects == 1 and reach.best_iou == pytest.approx(1) and reach.covered == 1 and reach.positives == 1


def test_an_object_between_small_anchors_is_not_covered(tmp_path: Path):
    path = coco_file(tmp_path / "a.json", (32, 32, 16, 16))  # its center is 8 px from those of the next anchors
    found = anchor_reach(path, [16], [[16.0]], ratios=[1.0])["small"]
    assert found.best_iou == pytest.approx(64 / (2 * 256 - 64)) and found.covered == 0 and found.positives == 0
    # a finer level of the same anchors has one at its center, and four at 8 px in one direction: 128 / 384 each
    assert anchor_reach(path, [8], [[16.0]], ratios=[1.0], threshold=0.3)["small"].positives == 5


def test_what_no_toolbox_trains_on_is_not_counted(tmp_path: Path):
    path = coco_file(tmp_path / "a.json", (24, 24, 16, 16), (200, 24, 16, 16), (24, 24, 0, 16), (24, 24, 0.5, 16))
    reach = anchor_reach(path, [16], [[16.0]], ratios=[1.0])
    assert list(reach) == ["small"] and reach["small"].objects == 1


@pytest.mark.torchvision
def test_overlaps_include_all_anchors(tmp_path: Path):
    from torchvision import ops

    boxes = [(3.0, 5.0, 20.0, 11.0), (40.0, 2.0, 50.0, 60.0), (10.0, 30.0, 7.0, 30.0)]
    strides, sizes, ratios = [8, 16], [[6.0, 6.0 * 2**0.5], [12.0, 12.0 * 2**0.5]], (0.5, 1.0, 2.0)
    anchors = []
    for stride, of_level in zip(strides, sizes, strict=True):
        for y in range(0, 64, stride):
            for x in range(0, 96, stride):
                for side in of_level:
                    for ratio in ratios:
                        width, height = side / ratio**0.5, side * ratio**0.5
                        anchors.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=torch.float64)
    expected = ops.box_iou(corners, torch.tensor(anchors, dtype=torch.float64))
    found = anchor_reach(coco_file(tmp_path / "a.json", *boxes), strides, sizes, ratios)
    assert {name: reach.objects for name, reach in found.items()} == {"small": 2, "medium": 1}
    small = expected[[0, 2]]
    assert found["small"].best_iou == pytest.approx(float(small.amax(1).mean()))
    assert found["small"].positives == pytest.approx(float((small >= 0.5).sum(1).double().mean()))
    assert found["medium"].best_iou == pytest.approx(float(expected[1].max()))
    assert found["medium"].covered == float(expected[1].max() >= 0.5)


def test_objects_are_matched_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A crowded image with all anchors at once would take gigabytes."""
    path = coco_file(tmp_path / "a.json", *((5.0 * k, 3.0 * k, 9.0 + k, 7.0) for k in range(7)))
    arguments: tuple = (path, [8], [[8.0]])
    whole = anchor_reach(*arguments)
    module = importlib.import_module("fpn_plugins.analysis.anchor_reach")
    sizes, compute = [], module._overlaps
    monkeypatch.setattr(module, "_overlaps", lambda boxes, anchors: sizes.append(len(boxes)) or compute(boxes, anchors))
    monkeypatch.setattr(module, "MOST_OVERLAPS", 3 * (64 // 8) * (96 // 8) * 3)
    assert anchor_reach(*arguments) == whole and sizes == [3, 3, 1]


@pytest.mark.parametrize(("strides", "sizes"), [([], []), ([8, 16], [[16.0]])])
def test_levels_without_sizes_are_refused(tmp_path: Path, strides: list, sizes: list):
    with pytest.raises(ValueError, match="expected as many of both"):
        anchor_reach(coco_file(tmp_path / "a.json"), strides, sizes)
