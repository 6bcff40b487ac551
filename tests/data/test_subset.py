"""Cutting a data set down to a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpn_plugins.data import check_coco, find_split, make_coco_subset


def test_subset_is_complete_and_the_same_for_both_splits(tiny_coco: Path, tmp_path: Path) -> None:
    target = make_coco_subset(tiny_coco, tmp_path / "subset", num_images=3)
    train, val = (find_split(target, split) for split in ("train", "val"))
    assert check_coco(train.ann_file, train.image_dir).images == 3
    assert train.ann_file.read_text() == val.ann_file.read_text()
    assert check_coco(val.ann_file, val.image_dir).annotations > 0


def test_the_first_images_with_objects_are_taken(tiny_coco: Path, tmp_path: Path) -> None:
    target = make_coco_subset(tiny_coco, tmp_path / "subset", num_images=2)
    everything = json.loads(find_split(tiny_coco, "train").ann_file.read_text())
    filled = sorted({entry["image_id"] for entry in everything["annotations"] if not entry["iscrowd"]})
    chosen = json.loads(find_split(target, "train").ann_file.read_text())
    assert [image["id"] for image in chosen["images"]] == filled[:2]


def test_errors(tiny_coco: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_images=99, but only"):
        make_coco_subset(tiny_coco, tmp_path / "subset", num_images=99)
    with pytest.raises(FileExistsError, match="choose another"):
        make_coco_subset(tiny_coco, tmp_path)
    with pytest.raises(ValueError, match="num_images=0 must be at least 1"):
        make_coco_subset(tiny_coco, tmp_path / "subset", num_images=0)


def test_a_failed_subset_leaves_nothing(tiny_coco: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(tiny_coco, tmp_path / "broken")
    for image in list((broken / "train2017").iterdir())[1:]:
        image.unlink()
    with pytest.raises(FileNotFoundError):
        make_coco_subset(broken, tmp_path / "subset", num_images=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]
