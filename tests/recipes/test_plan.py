"""Plans: every choice follows from the data, the machine and the options, and wrong input is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fpn_plugins.data import check_coco, find_split
from fpn_plugins.recipes import Machine, Recipe, plan_recipe, read_folder
from fpn_plugins.recipes.sizes import choose_size

CPU = Machine("cpu", 2)
GPU = Machine("cuda", 16, 80.0)
pytestmark = pytest.mark.timm


def plan(root: Path, recipe: str = "small", **options: Any) -> Recipe:
    return plan_recipe(read_folder(root), recipe, **{"machine": CPU, "backbone": "mobilenetv3_small_050", **options})


def test_a_plan_says_why(tiny_coco: Path):
    made = plan(tiny_coco, size=(320, 240))
    assert made.size == (240, 320) and made.data.pictures == 8 and made.data.masks
    assert made.short_sides == tuple(range(192, 305, 16)) and made.longest == 405
    assert made.iterations == 1200 and made.warmup == 100  # the least length: 36 passes are few iterations
    assert made.batch == 4 and made.rate == 1e-3
    assert made.backbone["pretrained"] is True and made.backbone["frozen_stages"] == 1
    assert all(what and value and why for what, value, why in made.reasons)
    assert {"size", "levels", "anchors", "batch", "length", "rate", "augmentation"} <= {row[0] for row in made.reasons}


def test_recipes_differ(tiny_coco: Path):
    few, standard = plan(tiny_coco, "few"), plan(tiny_coco, "standard")
    assert few.photometric and not standard.photometric
    assert few.backbone["frozen_stages"] > standard.backbone["frozen_stages"]
    assert few.short_sides[0] / few.size[0] < standard.short_sides[0] / standard.size[0]
    assert any("meant for" in why for *_, why in standard.reasons)


def test_objects_that_are_too_small_are_named(tiny_coco: Path):
    data = read_folder(tiny_coco)
    for factor, found in ((1, False), (0.02, True)):
        reasons: list[tuple[str, str, str]] = []
        choose_size(replace(data, boxes=data.boxes * factor), None, "cpu", reasons)
        assert ("cut the images into slices" in reasons[0][2]) == found


@pytest.mark.parametrize(("size", "found"), [((64, 96), True), ((768, 576), False)])
def test_a_given_size_at_which_objects_are_too_small_is_named(tiny_coco: Path, size: tuple[int, int], found: bool):
    (row,) = [row for row in plan(tiny_coco, size=size).reasons if row[0] == "size"]
    assert row[2].startswith("given; small objects (5 % quantile) get") and ("a larger --size" in row[2]) == found


def test_a_given_limit_of_the_longer_side_makes_objects_small_too(tiny_coco: Path):
    data = read_folder(tiny_coco)
    reasons: list[tuple[str, str, str]] = []
    short = data.sides[0]
    choose_size(replace(data, boxes=data.boxes * 0.02), (short, short), "cpu", reasons)
    assert data.sides[1] > short and "a larger --size" in reasons[0][2]


def test_the_finest_map_is_an_option(tiny_coco: Path):
    usual = plan(tiny_coco, size=(768, 576))
    assert usual.anchors.strides[0] == 8 and plan(tiny_coco, size=(768, 576), finest=8).anchors == usual.anchors
    fine = plan(tiny_coco, size=(768, 576), finest=4)
    assert fine.anchors.strides == (4, *usual.anchors.strides)
    assert fine.anchors.sizes[0] == pytest.approx(usual.anchors.sizes[0], rel=0.05)  # of the smallest objects
    assert fine.backbone["out_indices"][0] == usual.backbone["out_indices"][0] - 1


@pytest.mark.parametrize(("factor", "finest", "hint"), [(1, 8, False), (0.3, 8, True), (0.3, 4, False)])
def test_a_finer_map_is_recommended_for_small_objects(tiny_coco: Path, factor: float, finest: int, hint: bool):
    data = read_folder(tiny_coco)
    boxes = factor * data.boxes * 100 / (data.boxes[0] * data.boxes[1]) ** 0.5 / 576  # 100 or 30 px
    made = plan_recipe(
        *(replace(data, boxes=boxes), "small"),
        machine=CPU,
        backbone="mobilenetv3_small_050",
        size=(768, 576),
        finest=finest,
    )
    (levels,) = [row for row in made.reasons if row[0] == "levels"]
    assert ("--finest 4" in levels[2]) == hint


def test_strips_do_not_become_huge(tiny_coco: Path):
    data = read_folder(tiny_coco)
    reasons: list[tuple[str, str, str]] = []
    assert choose_size(replace(data, sides=(32, 20_000)), None, "cpu", reasons) == (64, 640)
    assert "cut the images into slices" in reasons[0][2]


def test_a_limit_of_the_longer_side_counts(tmp_path: Path):
    root = folder(tmp_path / "set", 10)  # images of 90 x 60
    data = read_folder(root, 0.2, tmp_path / "parts")
    square, usual = (
        plan_recipe(data, "few", size=size, machine=CPU, backbone="mobilenetv3_small_050")
        for size in ((96, 96), (64, 96))
    )
    assert data.resized(square.size)[:, 0] == pytest.approx([20 * 96 / 90, 30 * 96 / 90])
    assert square.anchors == usual.anchors  # both resize the images to 96 x 64
    assert (square.short_sides, square.longest) == (usual.short_sides, usual.longest)


def test_the_length_is_an_option(tiny_coco: Path):
    assert plan(tiny_coco, epochs=5).iterations == 10
    assert plan(tiny_coco, epochs=1).warmup == 0
    assert plan(tiny_coco, minutes=2, measure=lambda made: 0.5).iterations == 228  # a twentieth evaluates
    short = plan(tiny_coco, epochs=3)
    assert 1 <= short.eval_period <= short.iterations


@pytest.mark.parametrize("bands", [None, [0, 2]])
def test_time_is_measured(tiny_coco: Path, bands: list[int] | None):
    made = plan(tiny_coco, minutes=0.1, size=(64, 64), bands=bands)
    assert made.iterations >= 1 and any("s each" in why for *_, why in made.reasons)


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_two_stage_detectors_have_the_levels_of_their_pooling(tiny_coco: Path, detector: str):
    made = plan(tiny_coco, detector=detector)
    assert made.anchors.strides == (4, 8, 16, 32, 64) and made.anchors.per_octave == 1
    assert made.neck["extra_levels"] == {"num_levels": 1}


def test_a_gpu_gets_larger_images_batches_and_pyramids(tiny_coco: Path):
    made = plan(tiny_coco, machine=GPU, backbone=None)
    assert made.backbone["name"] == "resnet50" and made.channels == 256 and made.stacked_convs == 4
    assert made.size[0] >= plan(tiny_coco).size[0] and made.batch == 8  # no more than there are images
    assert GPU.batch((800, 1333), 256) == 16 and Machine("cuda", 4, 6.0).batch((800, 1333), 256) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "many"}, "recipe='many' is unknown.*few.*small.*standard"),
        ({"detector": "yolo"}, "detector='yolo' is unknown"),
        ({"finest": 16}, "finest=16 must be the stride of RetinaNet's finest map, 4 or 8"),
        ({"finest": 8, "detector": "faster_rcnn"}, "finest=8 is a choice of detector='retinanet'"),
        ({"size": (320, 32)}, r"size=\(320, 32\) must be two sides of at least 64"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"epochs": 1, "minutes": 1}, "give one of them"),
        ({"minutes": -1}, "minutes=-1 must be above 0"),
        ({"flips": "up"}, "flips='up' is unknown"),
        ({"neck": "FPNN"}, "neck='FPNN' is unknown"),
        ({"neck": "SingleScale"}, "neck='SingleScale' has no levels"),
        ({"backbone": "mobilnet"}, "mobilnet"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_wrong_options_are_named(tiny_coco: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        plan(tiny_coco, **options)


def test_missing_weights_are_named(tiny_coco: Path):
    with pytest.raises(FileNotFoundError, match="weights='nowhere' does not exist"):
        plan(tiny_coco, weights="nowhere")


def test_masks_are_needed_for_masks(tiny_coco: Path):
    data = replace(read_folder(tiny_coco), masks=False)
    with pytest.raises(ValueError, match="needs a mask for every object"):
        plan_recipe(data, "small", detector="mask_rcnn", machine=CPU)


def folder(root: Path, images: int, objects: bool = True) -> Path:
    """A folder with a training split alone."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    box = {"category_id": 1, "bbox": [4, 4, 20, 30], "area": 600, "iscrowd": 0}
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 90, "height": 60} for k in range(images)],
        "annotations": [{"id": k + 1, "image_id": k, **box} for k in range(images * objects)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations/train.json").write_text(json.dumps(content))
    return root


def test_a_part_is_set_aside(tmp_path: Path):
    root = folder(tmp_path / "set", 10)
    with pytest.raises(FileNotFoundError, match=r"(?s)no split 'val'.*--val-part 0.2"):
        read_folder(root)
    data = read_folder(root, 0.2, tmp_path / "parts")
    assert (data.pictures, data.val_pictures) == (8, 2) and data.train.image_dir == root / "images"
    file = tmp_path / "parts/annotations/val.json"
    again = json.loads(file.read_text())
    read_folder(root, 0.2, tmp_path / "parts")
    assert json.loads(file.read_text()) == again and len(again["annotations"]) == 2
    evaluated = find_split(tmp_path / "parts", "val")  # for commands with --root
    assert evaluated.ann_file == file and evaluated.image_dir.resolve() == (root / "images").resolve()
    one_class = plan_recipe(data, "few", machine=CPU, backbone="mobilenetv3_small_050")
    assert one_class.data.train.categories == ("thing",)
    assert len(one_class.anchors.ratios) == 1 and one_class.anchors.ratios[0] == pytest.approx(1.5, rel=0.05)


def edited(root: Path, split: str, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Change the annotations of a split in COCO's layout."""
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return root


def test_boxes_count_as_far_as_they_are_in_their_image(tmp_path: Path):
    root = folder(tmp_path / "set", 10)
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    given = content["annotations"]
    given[0]["bbox"] = [-1000, -1000, 5000, 5000]  # the whole image, 90 x 60
    given[1]["bbox"] = [200, 10, 30, 30]  # outside
    given[2]["bbox"] = [10, 10, 0, 30]
    given[3]["bbox"] = [10, 10, 0.5, 30]
    given[4]["area"] = 0
    given[5]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    data = read_folder(root, 0.2, tmp_path / "parts")
    parts = [json.loads(data.train.ann_file.read_text()), json.loads(data.val.ann_file.read_text())]
    assert data.pictures + 1 == 5 and data.val_pictures == 1
    assert {len(part["images"]) for part in parts} == {9, 1}  # images without objects stay for training
    widths, heights = data.boxes * 60
    assert widths.max() <= 90.001 and heights.max() <= 60.001 and widths.min() >= 20 - 1e-6


def test_another_part_does_not_replace_the_one_that_a_training_has(tmp_path: Path):
    root, parts = folder(tmp_path / "set", 10), tmp_path / "parts"
    read_folder(root, 0.2, parts)
    before = {path: path.read_text() for path in parts.rglob("*.json")}
    assert len(before) == 2
    with pytest.raises(FileExistsError, match="another choice of images.*--val-part.*--work-dir"):
        read_folder(root, 0.4, parts)
    assert {path: path.read_text() for path in parts.rglob("*.json")} == before
    read_folder(root, 0.2, parts)


def test_a_part_that_is_set_aside_can_be_evaluated(tmp_path: Path):
    root = folder(tmp_path / "set", 4)
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        del entry["iscrowd"]  # which trainings do not read
    path.write_text(json.dumps(content))
    data = read_folder(root, 0.5, tmp_path / "parts")
    assert data.val_pictures == 2
    check_coco(data.val.ann_file, data.val.image_dir, check_images=False, use="val")
    assert "info" in json.loads(data.val.ann_file.read_text())


def test_malformed_masks_stop_a_detector_of_masks_alone(tmp_path: Path):
    root = folder(tmp_path / "set", 4)
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["segmentation"] = [[4, 4, 24]]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="4 x annotation with malformed segmentation"):
        read_folder(root, 0.5, tmp_path / "parts")
    data = read_folder(root, 0.5, tmp_path / "parts", masks=False)
    assert (data.pictures, data.masks) == (2, False)


def test_the_validation_needs_objects(tiny_coco: Path, tmp_path: Path):
    for name, change in {
        "none": lambda content: content.update(annotations=[]),
        "crowd": lambda content: [entry.update(iscrowd=1) for entry in content["annotations"]],
        "no_images": lambda content: content.update(annotations=[], images=[]),
    }.items():
        root = edited(shutil.copytree(tiny_coco, tmp_path / name), "val", change)
        with pytest.raises(ValueError, match="no objects to evaluate"):
            read_folder(root)


def test_wrong_folders_are_named(tmp_path: Path, tiny_coco: Path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no objects with a box"):
        read_folder(folder(tmp_path / "empty", 4, objects=False), 0.5, tmp_path / "parts")
    with pytest.raises(ValueError, match="1 images with objects are too few"):
        read_folder(folder(tmp_path / "one", 1), 0.5, tmp_path / "parts")
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        read_folder(folder(tmp_path / "all", 4), 1.0, tmp_path / "parts")
    with pytest.raises(ValueError, match="has a validation split"):
        read_folder(tiny_coco, 0.2, tmp_path / "parts")
