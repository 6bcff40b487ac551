"""Mistakes in data sets are found before training, with a message that names the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mmdet


def config(root: Path, num_classes: int = 4, **dataset: Any) -> Any:
    """A config with one data set and one box head."""
    from mmengine.config import Config

    entry = {
        "type": "CocoDataset",
        "data_root": str(root),
        "ann_file": "annotations/instances_train2017.json",
        "data_prefix": {"img": "train2017/"},
        "metainfo": {"classes": ("disc", "box", "triangle", "star")},
        **dataset,
    }
    loader = {"dataset": {"type": "RepeatDataset", "times": 2, "dataset": entry}}
    return Config({"train_dataloader": loader, "model": {"roi_head": {"bbox_head": {"num_classes": num_classes}}}})


def check(cfg: Any) -> Any:
    """The function under test, imported late because it needs mmdet."""
    from fpn_plugins.adapters.mmdet.data_check import check_datasets

    return check_datasets(cfg)


def test_a_good_set_is_reported_through_its_wrapper(tiny_coco: Path) -> None:
    (report,) = check(config(tiny_coco))
    assert list(report.per_category) == ["disc", "box", "triangle", "star"]


def test_heads_with_another_number_of_classes(tiny_coco: Path) -> None:
    with pytest.raises(ValueError, match=r"has 4 classes.*bbox_head.num_classes': 80.*num_classes=4"):
        check(config(tiny_coco, num_classes=80))


def test_forgotten_metainfo_names_the_category(tiny_coco: Path) -> None:
    """Without metainfo mmdet would drop every annotation silently: its classes are COCO's 80."""
    with pytest.raises(ValueError, match="disc"):
        check(config(tiny_coco, num_classes=80, metainfo=None))


def test_a_chosen_subset_is_fine_and_a_misspelled_class_is_not(tiny_coco: Path) -> None:
    assert check(config(tiny_coco, 2, metainfo={"classes": ("disc", "star")}))
    with pytest.raises(ValueError, match=r"\(disk\) are not in .*which has \(disc, box"):
        check(config(tiny_coco, 2, metainfo={"classes": ("disk", "star")}))


def test_classes_in_another_order_would_be_swapped(tiny_coco: Path) -> None:
    with pytest.raises(ValueError, match=r"\(star, disc\) are in another order.*\(disc, star\)"):
        check(config(tiny_coco, 2, metainfo={"classes": ("star", "disc")}))


def test_classes_from_a_file(tiny_coco: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("disc\nbox\ntriangle\nstar\n")
    assert check(config(tiny_coco, metainfo={"classes": str(tmp_path / "classes.txt")}))


def test_test_images_need_no_annotations(tiny_coco: Path, tmp_path: Path) -> None:
    """COCO's test-dev has none; to train on such a file is still an error."""
    content = json.loads((tiny_coco / "annotations/instances_train2017.json").read_text())
    del content["annotations"]
    (tmp_path / "image_info.json").write_text(json.dumps(content))
    cfg = config(tiny_coco, ann_file=str(tmp_path / "image_info.json"))
    with pytest.raises(ValueError, match="annotations"):
        check(cfg)
    cfg.test_dataloader = cfg.pop("train_dataloader")
    assert check(cfg)[0].annotations == 0


def test_sets_on_a_server_are_passed_over(tmp_path: Path) -> None:
    assert check(config(tmp_path, backend_args={"backend": "petrel"})) == []


def test_images_missing(tiny_coco: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        check(config(tiny_coco, data_prefix={"img": "elsewhere/"}))


def test_a_file_that_is_not_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps({"frames": []}))
    with pytest.raises(ValueError, match="images.*annotations.*categories"):
        check(config(tmp_path))


def test_dicts_of_other_types_are_passed_over() -> None:
    from mmengine.config import Config

    assert check(Config({"train_dataloader": {"dataset": {"type": "VOCDataset"}}, "val_dataloader": None})) == []


@pytest.mark.parametrize(("number", "refused"), [(3, True), (4, False), (80, True)])
def test_heads_that_leave_their_number_to_the_default(tiny_coco: Path, number: int, refused: bool) -> None:
    """mmdet's mask head has 80 classes if the config does not say otherwise."""
    cfg = config(tiny_coco)
    cfg.model = {"roi_head": {"bbox_head": [{"num_classes": 4}, {"type": "mmdet.Shared2FCBBoxHead"}]}}
    with pytest.raises(ValueError, match=r"bbox_head\[1\].num_classes': 80}"):
        check(cfg)
    cfg.model.roi_head.bbox_head[1].num_classes = number
    if refused:
        with pytest.raises(ValueError, match=rf"bbox_head\[1\].num_classes': {number}}}"):
            check(cfg)
    else:
        assert check(cfg)


def with_pipeline(root: Path, with_mask: bool, **model: Any) -> Any:
    """A config whose pipeline may load masks."""
    cfg = config(root, pipeline=[{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_mask": with_mask}])
    cfg.model.update(model)
    return cfg


def without_masks(tiny_coco: Path, tmp_path: Path) -> Path:
    """A copy of the training annotations without masks."""
    content = json.loads((tiny_coco / "annotations/instances_train2017.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "boxes.json"


def test_masks_that_are_wanted_but_absent(tiny_coco: Path, tmp_path: Path) -> None:
    cfg = with_pipeline(tiny_coco, True)
    assert check(cfg)
    cfg.train_dataloader.dataset.dataset.ann_file = str(without_masks(tiny_coco, tmp_path))
    with pytest.raises(ValueError, match="annotation without segmentation.*boxes|boxes.*\n.*without segmentation"):
        check(cfg)
    cfg.train_dataloader.dataset.dataset.pipeline[1].with_mask = False
    assert check(cfg)


def test_masks_that_a_head_wants_but_the_pipeline_does_not_load(tiny_coco: Path) -> None:
    head = {"roi_head": {"mask_head": {"num_classes": 4}}}
    assert check(with_pipeline(tiny_coco, True, **head))
    with pytest.raises(ValueError, match="for a model that learns masks.*with_mask=True"):
        check(with_pipeline(tiny_coco, False, **head))


def test_evaluation_of_masks_that_are_absent(tiny_coco: Path, tmp_path: Path) -> None:
    cfg = config(tiny_coco, ann_file=str(without_masks(tiny_coco, tmp_path)))
    cfg.val_dataloader = cfg.pop("train_dataloader")
    cfg.val_evaluator = {"type": "CocoMetric", "metric": ["bbox", "segm"]}
    with pytest.raises(ValueError, match="without segmentation"):
        check(cfg)
    cfg.val_evaluator.metric = "bbox"
    assert check(cfg)


def test_evaluator_with_a_file_of_its_own(tiny_coco: Path, tmp_path: Path) -> None:
    cfg = config(tiny_coco)
    cfg.val_dataloader = cfg.pop("train_dataloader")
    cfg.val_evaluator = {"type": "CocoMetric", "ann_file": str(tmp_path / "absent.json")}
    with pytest.raises(FileNotFoundError, match="absent.json"):
        check(cfg)


def test_subclasses_with_classes_of_their_own(tiny_coco: Path) -> None:
    """mmdet's documentation adds data sets in this way."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    @DATASETS.register_module(name="ShapesForTheDataCheck", force=True)
    class Shapes(CocoDataset):
        METAINFO = {"classes": ("disc", "box", "triangle", "moon")}

    with pytest.raises(ValueError, match="disc"):
        check(config(tiny_coco, type="ShapesForTheDataCheck", metainfo=None))
    Shapes.METAINFO = {"classes": ("disc", "box", "triangle", "star")}
    assert check(config(tiny_coco, type="ShapesForTheDataCheck", metainfo=None))


def test_panoptic_sets_are_checked(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.config import Config

    from fpn_plugins.adapters.mmdet.data_check import find_problems

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    cfg = Config.fromfile(Path(__file__).parents[3] / "configs/mmdet/demo_panoptic_fpn.py")
    assert not find_problems(cfg).findings
    cfg.model.semantic_head.num_stuff_classes += 1
    cfg.model.panoptic_fusion_head.num_things_classes = 80
    metainfo = cfg.train_dataloader.dataset.metainfo
    metainfo.classes = tuple(reversed(metainfo.classes))
    text = find_problems(cfg).describe(errors=True)
    assert "list of classes other than the file's" in text
    assert "semantic_head.num_stuff_classes" in text and "fusion_head.num_things_classes': 80}" in text
