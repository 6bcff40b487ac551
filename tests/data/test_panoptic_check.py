"""Panoptic files: segments, the order of categories, and the label images of both toolboxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fpn_plugins.commands.check import main
from fpn_plugins.data import DataCheck, Head, PanopticSet, check_data, coco_set, find_panoptic_split


@pytest.fixture
def files(tiny_coco: Path, tmp_path: Path) -> PanopticSet:
    """A copy of the synthetic set's training split that a test may damage."""
    root = tmp_path / "set"
    shutil.copytree(tiny_coco, root)
    found = find_panoptic_split(root, "train")
    return PanopticSet(found.ann_file, found.image_dir, found.mask_dir, found.stuff_dir, found.instances_file)


def change(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def repaint(path: Path, paint: Callable[[Image.Image], Image.Image]) -> None:
    with Image.open(path) as image:
        painted = paint(image)
    painted.save(path)


def check(files: PanopticSet, **use: Any) -> DataCheck:
    return check_data([replace(files, **use)])


def test_the_synthetic_set_has_no_faults(files: PanopticSet) -> None:
    heads = [Head("roi_heads", 4), Head("sem_seg_head", 4, "stuff", extra=1)]
    assert not check_data([files, coco_set(files.instances_file, None)], heads).findings  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c["categories"].reverse(), r"stuff comes before a thing: things .*disc.* after stuff -> list all"),
        (lambda c: c["categories"][0].update(name="disk"), r"instance file with other things"),
        (lambda c: c["annotations"].pop(0), "1 x image without annotation: image 1"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=99), "unknown category: image 1, seg"),
        (lambda c: c["annotations"][0]["segments_info"][0].pop("bbox"), "without bbox and area: image 1, segment 1"),
        (lambda c: c["annotations"][0]["segments_info"][0].pop("iscrowd"), "without iscrowd 0 or 1: image 1, segment"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(id=0), "without an id from 1.*image 1, segment 0"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(id=2), r"id from 1.*image 1, id 2' \(2 times\)"),
        (lambda c: c["annotations"][0]["segments_info"].pop(), r"other ids than its segments: image 1: in the image a"),
        (lambda c: c["annotations"][0].update(file_name="x.png"), "named like its image: image 1: 'x.png', expected"),
        (lambda c: c["annotations"][0].pop("segments_info"), "list segments_info: image_id 1"),
        (lambda c: [s.update(iscrowd=1) for a in c["annotations"] for s in a["segments_info"]], "without a thing to"),
        (lambda c: c["images"][0].update(width=9), "another size.*image 1"),
        (lambda c: c["images"][0].pop("width"), "without integer id, file_name, width"),
        (lambda c: c["categories"][0].pop("isthing"), "category .* is malformed"),
        (lambda c: c.pop("annotations"), "is not a panoptic annotation file"),
    ],
    ids=range(16),
)
def test_faults_of_the_file(files: PanopticSet, damage: Callable[[dict[str, Any]], Any], message: str) -> None:
    change(files.ann_file, damage)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(files).require()


@pytest.mark.parametrize(
    ("folder", "paint", "message"),
    [
        ("mask_dir", lambda image: image.quantize(64), "not RGB with 8 bits: image 1 .*mode P"),
        ("mask_dir", lambda image: image.resize((9, 9)), "another size than its image: image 1 .*9 x 9 px"),
        (
            "stuff_dir",
            lambda image: image.convert("P"),
            "not gray with 8 bits: image 1 .*mode P.*brightness of palette",
        ),
        ("stuff_dir", lambda image: image.resize((9, 9)), "another size than its image: image 1 .*9 x 9 px"),
    ],
)
def test_faults_of_label_images(files: PanopticSet, folder: str, paint: Any, message: str) -> None:
    repaint(sorted(getattr(files, folder).iterdir())[0], paint)
    with pytest.raises(ValueError, match=message):
        check(files).require()


def test_a_label_image_that_is_cut_off(files: PanopticSet) -> None:
    path = sorted(files.mask_dir.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="label image that is damaged or cut off: image 1"):
        check(files).require()


def test_stuff_before_things_concerns_mmdetection(files: PanopticSet) -> None:
    change(files.ann_file, lambda content: content["categories"].reverse())
    assert check(files, toolbox="detectron2").describe(errors=False)
    with pytest.raises(ValueError, match="silently wrong"):
        check(files, toolbox="mmdet").require()


def test_classes_of_a_config(files: PanopticSet) -> None:
    things, stuff = (
        ("disc", "box", "triangle", "star"),
        tuple(find_panoptic_split(files.ann_file.parents[1], "train").stuff.values()),
    )
    assert not check(files, classes=things + stuff).findings
    with pytest.raises(ValueError, match="list of classes other than the file's"):
        check(files, classes=stuff + things).require()


def test_heads_for_stuff(files: PanopticSet) -> None:
    with pytest.raises(ValueError, match=r"has \d stuff classes .*sem_seg_head.num_classes': 54} differ"):
        check_data([files], [Head("model.sem_seg_head.num_classes", 54, "stuff", extra=1)]).require()


def test_command_checks_panoptic_files_of_a_folder(files: PanopticSet, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(files.ann_file.parents[1])
    main(["--root", root, "--panoptic"])
    change(files.ann_file, lambda content: content["categories"].reverse())
    main(["--root", root])
    with pytest.raises(SystemExit):
        main(["--root", root, "--panoptic"])
    assert "stuff comes before a thing" in capsys.readouterr().err
