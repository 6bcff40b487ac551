"""The study of recipes: its trainings, their data, the logs that it reads, and its page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.torchvision, pytest.mark.timm]


@pytest.fixture
def cells(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("studies/recipes/recipe_cells")


def result(cell: Any, ap: float) -> dict[str, Any]:
    curve = [{"iteration": 1, "AP": ap / 2, "AP50": ap}, {"iteration": cell.iterations, "AP": ap, "AP50": 1.5 * ap}]
    return {"cell": asdict(cell), "iterations": cell.iterations, "core_seconds": 300.0, "curve": curve}


def test_names_tell_trainings_apart(cells: ModuleType):
    found = cells.all_cells("bccd")
    assert len({cell.name for cell in found}) == len(found)
    assert {cell.method for cell in found} == {"recipe", "stock", "reference"}
    assert "recipe-mmdet-bccd-mobilenetv2_100-205-seed0-faster_rcnn" in {cell.name for cell in found}
    longer = cells.RecipeCell("recipe", "mmdet", "bccd", "mobilenetv2_100", 205, 0, 4)
    assert longer.name == "recipe-mmdet-bccd-mobilenetv2_100-205-seed0-x4" and longer.iterations == 3280
    assert len(cells.all_cells("other", second=True)) == 7


def test_pictures_are_chosen_by_the_seed(cells: ModuleType, tiny_coco: Path, tmp_path: Path):
    def chosen(seed: int, pictures: int, folder: str) -> list[int]:
        cell = cells.RecipeCell("recipe", "mmdet", "x", "b", pictures, seed)
        data = cells.prepare_data(tiny_coco, cell, tmp_path / folder)
        content = json.loads((data / "annotations/train.json").read_text())
        assert {entry["image_id"] for entry in content["annotations"]} == {image["id"] for image in content["images"]}
        assert all((data / "train" / image["file_name"]).is_file() for image in content["images"])
        return [image["id"] for image in content["images"]]

    assert chosen(0, 3, "a") == chosen(0, 3, "a") and len(chosen(0, 3, "a")) == 3
    assert chosen(0, 3, "a") != chosen(1, 3, "b")
    assert len(chosen(0, 10**6, "c")) == 8


def test_every_method_has_a_command(cells: ModuleType, tmp_path: Path):
    for cell in cells.all_cells("bccd"):
        arguments = cells.command(cell, tmp_path, None, tmp_path)
        assert Path(arguments[0]).is_file() and str(cell.iterations) in arguments
        assert cell.method == "reference" or cell.detector in arguments
        assert ("--stock" in arguments) == (cell.method == "stock")


def test_curves_are_read_from_each_toolboxs_log(cells: ModuleType, tmp_path: Path):
    (tmp_path / "20260101/vis_data").mkdir(parents=True)
    lines = [{"step": 1, "loss": 2.0}, {"step": 5, "coco/bbox_mAP": 0.123, "coco/bbox_mAP_50": 0.4}]
    (tmp_path / "20260101/vis_data/scalars.json").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"iteration": 4, "bbox/AP": 12.3, "bbox/AP50": 40.0}, {"iteration": 6, "total_loss": 1.0}]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    expected = [{"iteration": 5, "AP": 12.3, "AP50": 40.0}]
    assert list(cells.read_curve("mmdet", tmp_path)) == list(cells.read_curve("detectron2", tmp_path)) == expected


def test_the_page_names_what_is_not_measured(script: Callable[[str], ModuleType], cells: ModuleType):
    page = script("studies/recipes/recipe_page").page
    found = cells.all_cells("bccd")
    empty = page({"cells": []})
    assert f"{len(found)} of {len(found)} trainings" in empty and empty.count("not measured yet") > 8
    first = [cell for cell in found if (cell.method, cell.toolbox, cell.pictures) == ("recipe", "mmdet", 205)]
    text = page(
        {
            "cells": [
                result(cell, 40.0 + cell.seed)
                for cell in first
                if "mobile" in cell.name and cell.detector == "retinanet"
            ]
        }
    )
    assert "| 205 | recipe | 3 | 41.0 ± 1.0 | 61.5 ± 1.5 | 5.0 |" in text
    assert "| bccd | recipe | mmdet | retinanet | mobilenetv2_100 | 820 | 3 | 41.0 ± 1.0" in text
    other = cells.all_cells("cells", second=True)[0]
    assert "| cells | recipe | mmdet |" in page({"cells": [result(other, 10.0)]})


def test_the_page_compares_in_the_time_of_the_reference(script: Callable[[str], ModuleType], cells: ModuleType):
    page = script("studies/recipes/recipe_page").page
    recipe = next(
        cell for cell in cells.all_cells("bccd") if cell.name == "recipe-mmdet-bccd-mobilenetv2_100-205-seed0"
    )
    reference = next(cell for cell in cells.all_cells("bccd") if cell.method == "reference")
    curve = [{"iteration": k * 164, "AP": 10.0 * k, "AP50": 15.0 * k} for k in range(1, 6)]
    rows = [{**result(recipe, 0.0), "curve": curve, "core_seconds": 500.0}]
    text = page({"cells": [*rows, {**result(reference, 30.0), "core_seconds": 210.0}]})
    assert "3.5 core minutes" in text
    assert "| recipe | retinanet | mmdet | 1 | 20.0 | 30.0 | 50.0 | 75.0 |" in text
    assert "| reference | retinanet | torchvision | 1 | 30.0 | 45.0 | – | – |" in text
    slow = page({"cells": [*rows, {**result(reference, 30.0), "core_seconds": 40.0}]})
    assert "| recipe | retinanet | mmdet | 1 | – | – | 10.0 | 15.0 |" in slow
    assert "| recipe | faster_rcnn | mmdet | 0 | not measured yet |" in slow
    assert "core time of the reference" not in page({"cells": rows})


def test_results_are_collected(script: Callable[[str], ModuleType], cells: ModuleType, tmp_path: Path):
    study = script("studies/recipes/recipe_study")
    one, two = cells.all_cells("bccd")[:2]
    for cell, value in ((one, 30.0), (two, 20.0)):
        file = study.result_file(tmp_path, cell)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(result(cell, value)))
    assert study.collect([one], tmp_path, tmp_path / "all.json") == 1
    assert study.collect([two], tmp_path, tmp_path / "all.json") == 2  # those of other machines stay
    assert len(study.missing(json.loads((tmp_path / "all.json").read_text()))) == len(cells.all_cells("bccd")) - 2


def test_raccoons_are_converted(run_tool: Callable[..., Any], tmp_path: Path):
    from PIL import Image

    from fpn_plugins.data import find_split

    source = tmp_path / "raccoon_dataset"
    (source / "images").mkdir(parents=True)
    (source / "data").mkdir()
    (source / "LICENSE").write_text("MIT License")
    Image.new("RGB", (60, 40)).save(source / "images/a.jpg")
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,60,40,raccoon,1,5,60,40"]
    for name in ("train", "test"):
        (source / f"data/{name}_labels.csv").write_text("\n".join(lines))
    done = run_tool("studies/recipes/raccoons", source, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    split = find_split(tmp_path / "out", "val")
    content = json.loads(split.ann_file.read_text())
    assert content["annotations"][0]["bbox"] == [0, 4, 60, 36] and (split.image_dir / "a.jpg").is_file()
    done = run_tool("studies/recipes/raccoons", tmp_path, tmp_path / "other")
    assert done.returncode != 0 and "no clone of the raccoon data set" in done.stderr


def test_the_reference_trains(run_tool: Callable[..., Any], tiny_coco: Path, tmp_path: Path):
    import timm

    name = "mobilenetv3_small_050"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    options = ["--backbone", name, "--weights", tmp_path / "weights.pth", "--iterations", 1, "--out", tmp_path / "out"]
    done = run_tool("studies/recipes/recipe_reference", "--root", tiny_coco, *options)
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "out/metrics.json").read_text().splitlines()
    assert json.loads(line)["iteration"] == 1


@pytest.mark.parametrize("way", ["pyramid", "level-weights"])
def test_ways_for_small_objects_build_the_detector(
    way: str, script: Callable[[str], ModuleType], tiny_coco: Path, tmp_path: Path
):
    from detectron2.config import LazyConfig, instantiate

    from fpn_plugins.commands import recipe, recipe_options

    ways = script("studies/recipes/recipe_ways").WAYS
    options = ["--recipe", "small", "--backbone", "mobilenetv3_small_050", "--size", "768", "576"]
    args = recipe_options.parse_args("detectron2", ["--data", str(tiny_coco), *options])
    plan = recipe.make_plan(args, tmp_path)
    plan.backbone["pretrained"] = False
    model = instantiate(LazyConfig.load(str(recipe.write("detectron2", plan, tmp_path, ways[way](plan)))).model)
    used = [model.backbone.output_shape()[name].stride for name in model.head_in_features]
    assert used == list(plan.anchors.strides)
    assert (way == "pyramid") == (type(model.backbone.bottom_up).__name__ == "ImagePyramid")
    assert (way == "level-weights") == (model.level_weights is not None)
