"""Detectors of boxes train on annotations without masks, in both toolboxes and from the shipped configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
STEMS = ("retinanet_r50_fpn_coco_folder", "faster_rcnn_r50_fpn_coco_folder")


@pytest.fixture
def boxes(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the layout annotations/{train,val}.json and images/, without segmentations."""
    root = tmp_path / "boxes"
    for split in ("train", "val"):
        shutil.copytree(tiny_coco / f"{split}2017", root / "images" / f"{split}_images")
        content = json.loads((tiny_coco / f"annotations/instances_{split}2017.json").read_text())
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        for image in content["images"]:
            image["file_name"] = f"{split}_images/{image['file_name']}"
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(root))
    return root


@pytest.mark.mmdet
def test_mmdet(boxes: Path) -> None:
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DefaultScope

    from fpn_plugins.adapters.mmdet.data_check import find_problems
    from fpn_plugins.adapters.mmdet.detector import register_all_modules

    register_all_modules()
    cfg = Config.fromfile(ROOT / "configs/mmdet/demo_retinanet.py")
    assert not find_problems(cfg).findings
    cfg.model.backbone.backbone.checkpoint = None
    with DefaultScope.overwrite_default_scope("mmdet"):
        from mmdet.registry import DATASETS, MODELS

        data, model = DATASETS.build(cfg.train_dataloader.dataset), MODELS.build(cfg.model)
        batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), training=True)
        losses = model(**batch, mode="loss")
    sum(torch.as_tensor(part).sum() for values in losses.values() for part in values).backward()
    assert model.bbox_head.retina_cls.weight.grad.abs().sum() > 0


@pytest.mark.detectron2
def test_detectron2(boxes: Path) -> None:
    from detectron2.config import get_cfg
    from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config, register_coco_folder
    from fpn_plugins.adapters.detectron2.data_check import find_problems, yaml_needs

    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs/detectron2/demo_retinanet.yaml"), allow_unsafe=False)
    del cfg.MODEL.FPN_PLUGINS.BACKBONE.ARGS["checkpoint"]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ([name] for name in register_coco_folder(boxes, "boxes_alone"))
    try:
        assert not find_problems(yaml_needs(cfg)).findings
        mapper = DatasetMapper(cfg, is_train=True)
        batch = [mapper(entry) for entry in DatasetCatalog.get("boxes_alone_train")[:2]]
        model = build_model(cfg)
        with EventStorage():
            sum(model(batch).values()).backward()
        assert model.head.cls_score.weight.grad.abs().sum() > 0
    finally:
        for name in ("boxes_alone_train", "boxes_alone_val"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.mmdet
@pytest.mark.parametrize("stem", STEMS)
def test_the_config_for_own_data_trains_in_mmdet(stem: str, boxes: Path, tmp_path: Path) -> None:
    from mmengine.config import Config
    from mmengine.runner import Runner

    from fpn_plugins.adapters.mmdet.data_check import find_problems

    cfg = Config.fromfile(ROOT / f"configs/mmdet/{stem}.py")
    assert not find_problems(cfg).findings
    cfg.model.backbone.update(depth=18, init_cfg=None)
    cfg.model.neck.in_channels = [64, 128, 256, 512]
    cfg.train_dataloader.dataset.pipeline[2].scale = (128, 96)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None, test_cfg=None, test_dataloader=None)
    cfg.update(test_evaluator=None, param_scheduler=[], work_dir=str(tmp_path), experiment_name=tmp_path.name)
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=2)
    runner = Runner.from_cfg(cfg)
    head = runner.model.bbox_head if "retinanet" in stem else runner.model.roi_head.bbox_head
    before = {key: value.clone() for key, value in head.state_dict().items()}
    runner.train()
    assert runner.iter == 2 and head.num_classes == 4
    assert any(not torch.equal(value, before[key]) for key, value in head.state_dict().items())
    assert all(value.isfinite().all() for value in head.state_dict().values())


@pytest.mark.detectron2
@pytest.mark.parametrize("stem", STEMS)
def test_the_config_for_own_data_trains_in_detectron2(stem: str, boxes: Path) -> None:
    from detectron2.config import LazyConfig, instantiate
    from detectron2.engine import SimpleTrainer

    from fpn_plugins.adapters.detectron2.data_check import find_problems, lazy_needs

    cfg = LazyConfig.load(str(ROOT / f"configs/detectron2/{stem}.py"))
    assert not find_problems(lazy_needs(cfg)).findings
    cfg.model.backbone.bottom_up.stages.depth = 18
    cfg.model.backbone.bottom_up.stages.pop("stride_in_1x1")  # of bottlenecks
    cfg.dataloader.train.mapper.augmentations[0].update(short_edge_length=[96], max_size=128)
    cfg.dataloader.train.update(total_batch_size=2, num_workers=0)
    model = instantiate(cfg.model).to("cpu")
    head = model.head if "retinanet" in stem else model.roi_heads
    before = {key: value.clone() for key, value in head.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    SimpleTrainer(model, instantiate(cfg.dataloader.train), optimizer).train(0, 2)  # raises at a NaN
    assert (model if "retinanet" in stem else head).num_classes == 4
    assert any(not torch.equal(value, before[key]) for key, value in head.state_dict().items())
