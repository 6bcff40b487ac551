"""What a Detectron2 config's model expects of its data sets, and faults that are found from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coco_files import content_with_masks, good_content, write_folder

pytestmark = pytest.mark.detectron2


@pytest.fixture
def registered(tmp_path: Path) -> Iterator[Any]:
    """Register a folder with these contents under a name of its own."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from fpn_plugins.adapters.detectron2 import register_coco_folder

    names: list[str] = []

    def register(train: dict[str, Any], val: dict[str, Any] | None = None) -> tuple[str, str]:
        names.extend(register_coco_folder(write_folder(tmp_path, train, val), "checked"))
        return names[0], names[1]

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def yaml_config(**model: Any) -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = model.pop("kind", "GeneralizedRCNN")
    cfg.merge_from_list([part for key, value in model.items() for part in (key.replace("__", "."), value)])
    return cfg


def test_needs_of_yaml_configs() -> None:
    from fpn_plugins.adapters.detectron2.data_check import yaml_needs
    from fpn_plugins.data import Head

    needs = yaml_needs(yaml_config(kind="RetinaNet"))
    assert needs.heads == [Head("MODEL.RETINANET.NUM_CLASSES", 80)] and not needs.masks
    needs = yaml_needs(yaml_config(kind="PanopticFPN", MODEL__MASK_ON=True))
    assert needs.heads[1] == Head("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54, "stuff", extra=1)
    assert needs.learns_masks and needs.polygons
    needs = yaml_needs(yaml_config(DATASETS__TRAIN=("a",), DATASETS__TEST=("b",), INPUT__MASK_FORMAT="bitmask"), True)
    assert (needs.trained, needs.evaluated, needs.polygons) == ([], ["b"], False)


@pytest.mark.parametrize(
    ("name", "heads", "masks"),
    [
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py", {"roi_heads", "box_predictor", "mask_head"}, True),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", {"model"}, False),
        ("COCO-Detection/fcos_R_50_FPN_1x.py", {"model"}, False),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", {"roi_heads", "sem_seg_head", "mask_head"}, True),
    ],
)
def test_needs_of_lazy_configs(name: str, heads: set[str], masks: bool) -> None:
    from detectron2 import model_zoo

    from fpn_plugins.adapters.detectron2.data_check import lazy_needs

    needs = lazy_needs(model_zoo.get_config(name))
    assert heads <= {head.name.split(".")[-2].split("[")[0] for head in needs.heads}
    assert {head.number for head in needs.heads} <= {80, 54}
    assert needs.learns_masks == needs.masks == needs.polygons == masks
    assert needs.trained and needs.evaluated


@pytest.mark.parametrize("number", [1, 3])
def test_heads_in_both_directions(registered: Any, number: int) -> None:
    from fpn_plugins.adapters.detectron2.data_check import check_datasets

    names = registered(good_content())
    assert len(check_datasets(names, 2)) == 2
    with pytest.raises(ValueError, match=rf"has 2 classes \(cat, dog\), but {{'num_classes': {number}}} differ"):
        check_datasets(names, number)


def test_train_and_val_with_other_names(registered: Any) -> None:
    from fpn_plugins.adapters.detectron2.data_check import DataNeeds, find_problems

    val = good_content()
    val["categories"][1]["name"] = "cow"
    train_name, val_name = registered(good_content(), val)
    with pytest.raises(ValueError, match=r"label 1 differs: it has \(cat, cow\)"):
        find_problems(DataNeeds([train_name], [val_name])).require()


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"learns_masks": True, "masks": True}, "annotation without segmentation.*annotation 3"),
        ({"learns_masks": True}, "masks are not read, for a model that learns masks"),
        ({"masks": True, "polygons": True}, "RLE mask.*annotation 2"),
        ({"masks": True}, None),
        ({}, None),
    ],
)
def test_masks(registered: Any, needs: dict[str, bool], message: str | None) -> None:
    from fpn_plugins.adapters.detectron2.data_check import DataNeeds, find_problems

    result = find_problems(DataNeeds([registered(good_content())[0]], **needs))
    if message is None:
        assert result.require()
    else:
        with pytest.raises(ValueError, match=message):
            result.require()


def test_masks_of_some_objects_of_an_image(registered: Any) -> None:
    from fpn_plugins.adapters.detectron2.data_check import DataNeeds, find_problems

    content = content_with_masks()
    content["annotations"][1]["segmentation"] = []
    with pytest.raises(ValueError, match=r"image where others have one.*annotation 2.*use_instance_mask=False"):
        find_problems(DataNeeds([registered(content)[0]], masks=True)).require()


def test_panoptic_sets_are_checked(tiny_coco: Path, tmp_path: Path) -> None:
    import json
    import shutil

    from fpn_plugins.adapters.detectron2 import register_coco_panoptic_folder
    from fpn_plugins.adapters.detectron2.data_check import DataNeeds, find_problems
    from fpn_plugins.data import Head

    root = tmp_path / "panoptic_set"
    shutil.copytree(tiny_coco, root)
    train, val = register_coco_panoptic_folder(root, "checked_panoptic")
    stuff = len(json.loads((root / "annotations/panoptic_train2017.json").read_text())["categories"]) - 4
    heads = [Head("roi_heads.num_classes", 4), Head("sem_seg_head.num_classes", stuff + 1, "stuff", extra=1)]
    needs = DataNeeds([train], [val], heads, learns_masks=True, masks=True)
    assert len(find_problems(needs).require()) == 2
    (root / "panoptic_stuff_train2017").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="panoptic_stuff_train2017"):
        find_problems(needs)
