"""The check's verdict against what the toolboxes' own loaders and evaluators do with the same file."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_files import HEIGHT, WIDTH, content_with_masks, rle, write_images, write_json

from fpn_plugins.data import CocoSet, check_data

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2]
NUMBERS = itertools.count()
BOX = [[10.0, 10.0, 30.0, 30.0]]


def update(part: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Change all entries: a function computes the new value of the old one, ``None`` removes it."""

    def change(content: dict[str, Any]) -> None:
        for entry in content[part]:
            for key, value in values.items():
                entry[key] = value(entry[key]) if callable(value) else value
                if value is None:
                    del entry[key]

    return change


def image_ids(kind: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda content: [update("images", id=kind)(content), update("annotations", image_id=kind)(content)]


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "good": lambda content: None,
    "image ids are texts": image_ids("image {}".format),
    "image ids are floats": image_ids(float),
    "annotation ids are texts": update("annotations", id="a{}".format),
    "annotation ids are numbers as texts": update("annotations", id=str),
    "annotation ids are floats": update("annotations", id=float),
    "category ids are texts": lambda content: [
        update("categories", id="c{}".format)(content),
        update("annotations", category_id="c{}".format)(content),
    ],
    "sizes are floats": update("images", width=float, height=float),
    "sizes are texts": update("images", width=str, height=str),
    "ids mix texts and numbers": image_ids(lambda number: "1" if number == 1 else number),
    "no iscrowd": update("annotations", iscrowd=None),
    "iscrowd is a text": update("annotations", iscrowd=str),
    "no area": update("annotations", area=None),
    "no info": lambda content: content.pop("info"),
    "no masks": update("annotations", segmentation=None),
    "one mask is missing": lambda content: content["annotations"][0].pop("segmentation"),
    "runs are floats": update("annotations", segmentation={"size": [80.0, 100.0], "counts": [0.0, 1600.0, 6400.0]}),
    "ignore": lambda content: content["annotations"][0].update(ignore=1),
    "all crowd": update("annotations", iscrowd=1, segmentation=rle()),
    "no annotations": lambda content: content.update(annotations=[]),
    "all outside": update("annotations", bbox=[500, 500, 20, 20]),
    "text as a box": update("annotations", bbox=["1", "2", "3", "4"]),
    "polygons of two points beside others": update(
        "annotations", segmentation=[[10, 10, 30, 10, 30, 30], [1, 2, 3, 4]]
    ),
    "a polygon of two points": lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4]]),
    "an empty polygon": lambda content: content["annotations"][0].update(segmentation=[[]]),
    "a flat polygon": lambda content: content["annotations"][0].update(segmentation=[1, 2, 3, 4, 5, 6]),
    "turned sizes": update("images", width=HEIGHT, height=WIDTH),
}
# refused although this toolbox goes on, because the other one stops or because the result is wrong
STRICTER = {
    ("turned sizes", "mmdet"),
    ("ids mix texts and numbers", "mmdet"),
    ("iscrowd is a text", "mmdet"),
    ("iscrowd is a text", "detectron2"),
    ("polygons of two points beside others", "mmdet"),  # in masks for evaluation, whose first polygon is read otherwise
    ("polygons of two points beside others", "detectron2"),
    ("a polygon of two points", "mmdet"),
    ("a polygon of two points", "detectron2"),
    ("an empty polygon", "mmdet"),
    ("an empty polygon", "detectron2"),
    ("text as a box", "detectron2"),
}


def run_mmdet(ann_file: Path, masks: bool, evaluate: bool) -> None:
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric
    from mmdet.utils import register_all_modules

    register_all_modules()
    load = dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=masks)
    pipeline = [dict(type="LoadImageFromFile"), load, dict(type="mmdet.PackDetInputs")]
    metainfo, filters = dict(classes=("cat", "dog")), dict(filter_empty_gt=True, min_size=8)
    # serializing collects garbage, which takes longer than all the rest
    files = dict(ann_file=str(ann_file), data_prefix=dict(img=str(ann_file.parent)), serialize_data=False)
    data = CocoDataset(**files, metainfo=metainfo, filter_cfg=None if evaluate else filters, pipeline=pipeline)
    samples = [data[index]["data_samples"] for index in range(len(data))]
    if not evaluate:
        assert sum(len(sample.gt_instances) for sample in samples), "nothing to train on"
        return
    metric = CocoMetric(ann_file=str(ann_file), metric=["bbox", "segm"] if masks else "bbox")
    metric.dataset_meta = data.metainfo
    for sample in samples:
        found = dict(bboxes=torch.tensor(BOX), scores=torch.tensor([0.9]), labels=torch.tensor([1]))
        if masks:
            found["masks"] = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
        metric.process({}, [dict(img_id=sample.img_id, ori_shape=sample.ori_shape, pred_instances=found)])
    metric.evaluate(len(samples))


def run_detectron2(ann_file: Path, masks: bool, evaluate: bool) -> None:
    from detectron2.data import DatasetMapper, get_detection_dataset_dicts
    from detectron2.data.datasets import register_coco_instances
    from detectron2.evaluation import COCOEvaluator
    from detectron2.modeling.postprocessing import detector_postprocess
    from detectron2.structures import Boxes, Instances

    name = f"agreement_{next(NUMBERS)}"
    register_coco_instances(name, {}, str(ann_file), str(ann_file.parent))
    options = dict(augmentations=[], image_format="BGR", use_instance_mask=masks, instance_mask_format="bitmask")
    mapper = DatasetMapper(is_train=not evaluate, **options)
    samples = [mapper(entry) for entry in get_detection_dataset_dicts(name, filter_empty=not evaluate)]
    if not evaluate:
        assert sum(len(sample["instances"]) for sample in samples), "nothing to train on"
        assert not masks or all(hasattr(sample["instances"], "gt_masks") for sample in samples)
        return
    evaluator = COCOEvaluator(name, distributed=False)
    evaluator.reset()
    for sample in samples:
        found = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(torch.tensor(BOX)), scores=torch.tensor([0.9]))
        found.pred_classes = torch.tensor([1])
        if masks:
            found.pred_masks = torch.ones(1, 1, 28, 28)
        evaluator.process([sample], [{"instances": detector_postprocess(found, sample["height"], sample["width"])}])
    evaluator.evaluate()


def succeeds(run: Callable[..., None], *arguments: Any) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run(*arguments)
    except Exception:  # of any kind: pycocotools raises the base class itself
        return False
    return True


@pytest.mark.parametrize("name", CHANGES)
def test_refuses_what_the_toolbox_refuses_and_nothing_else(name: str, tmp_path: Path) -> None:
    content = content_with_masks()
    write_images(tmp_path, content)
    CHANGES[name](content)
    ann_file = write_json(tmp_path / "set.json", content)
    toolboxes, uses = (
        (("mmdet", run_mmdet), ("detectron2", run_detectron2)),
        ((False, True), (True, False), (True, True)),
    )
    for (toolbox, run), (masks, evaluate) in itertools.product(toolboxes, uses):
        source = CocoSet(
            ann_file,
            tmp_path,
            ("cat", "dog"),
            trained=not evaluate,
            evaluated=frozenset({"bbox", "segm"} if masks else {"bbox"}) if evaluate else frozenset(),
            masks=masks and (not evaluate or toolbox == "mmdet"),
            learns_masks=masks,
            toolbox=toolbox,
        )
        accepted = not check_data([source]).describe(errors=True)
        worked = succeeds(run, ann_file, masks, evaluate)
        case = f"{toolbox}, {'masks' if masks else 'boxes'}, {'evaluation' if evaluate else 'training'}"
        stricter = worked and not accepted and (name, toolbox) in STRICTER
        verdict = "accepts" if accepted else "refuses"
        assert accepted == worked or stricter, f"{case}: the check {verdict} it, the toolbox does not"
