"""Average precision from prediction files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fpn_plugins.analysis import COCO_METRICS, evaluate_predictions
from fpn_plugins.data import find_split


def truth_as_predictions(ann_file: Path) -> list[dict[str, Any]]:
    """Results that repeat the ground truth, boxes and masks, as Detectron2 writes them."""
    from pycocotools.coco import COCO

    coco = COCO(str(ann_file))
    results = []
    for entry in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        rle = coco.annToRLE(entry)
        counts = rle["counts"].decode() if isinstance(rle["counts"], bytes) else rle["counts"]
        mask = {"size": rle["size"], "counts": counts}
        common = {"image_id": entry["image_id"], "category_id": entry["category_id"], "score": 0.9}
        results.append({**common, "bbox": entry["bbox"], "segmentation": mask})
    return results


@pytest.fixture
def perfect(tiny_coco: Path, tmp_path: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Annotations, a prediction file, and what is in it."""
    ann_file = find_split(tiny_coco, "train").ann_file
    results = truth_as_predictions(ann_file)
    (tmp_path / "results.json").write_text(json.dumps(results))
    return ann_file, tmp_path / "results.json", results


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_truth_scores_one(perfect: Any, kind: str) -> None:
    scores = evaluate_predictions(perfect[0], perfect[1], kind)
    assert tuple(scores) == COCO_METRICS
    assert scores["AP"] == pytest.approx(1.0) and scores["AP_S"] == pytest.approx(1.0)


def test_masks_are_sized_by_their_own_area(perfect: Any, tmp_path: Path) -> None:
    """A box next to the mask must not change the size class of the mask."""
    ann_file, path, results = perfect
    scores = evaluate_predictions(ann_file, path, "segm")
    for entry in results:
        entry["bbox"] = [0, 0, 320, 240]
    (tmp_path / "boxed.json").write_text(json.dumps(results))
    assert evaluate_predictions(ann_file, tmp_path / "boxed.json", "segm") == scores


def test_wrong_boxes_score_less(perfect: Any, tmp_path: Path) -> None:
    for entry in perfect[2][::2]:
        entry["bbox"] = [entry["bbox"][0] + 50, *entry["bbox"][1:]]
    (tmp_path / "shifted.json").write_text(json.dumps(perfect[2]))
    assert 0 < evaluate_predictions(perfect[0], tmp_path / "shifted.json")["AP"] < 0.8


def test_no_predictions_are_zero(perfect: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    scores = evaluate_predictions(perfect[0], tmp_path / "empty.json")
    assert scores["AP"] == scores["AP_S"] == 0.0 and set(scores.values()) <= {0.0, -1.0}


def test_errors(perfect: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="iou_type='boxes'.*bbox"):
        evaluate_predictions(perfect[0], perfect[1], "boxes")
    (tmp_path / "dict.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a dict"):
        evaluate_predictions(perfect[0], tmp_path / "dict.json")
    for entry in perfect[2]:
        del entry["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(perfect[2]))
    with pytest.raises(ValueError, match="have no 'segmentation'"):
        evaluate_predictions(perfect[0], tmp_path / "boxes.json", "segm")
