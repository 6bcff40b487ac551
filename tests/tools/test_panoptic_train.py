"""Panoptic FPN trains two iterations and is evaluated by PQ on the synthetic set, in both toolboxes' own loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpn_plugins.data import PanopticSplit, find_panoptic_split

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(autouse=True)
def coco_folder(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the folder that the demo's configs read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


def mmdet_config(work_dir: Path) -> Any:
    """Config of the demo with two iterations and without prepared weights."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(CONFIGS / "mmdet/demo_panoptic_fpn.py"))
    cfg.model.backbone.backbone.checkpoint = None
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # scores are low after two iterations
    cfg.merge_from_dict(
        {
            "work_dir": str(work_dir),
            "experiment_name": f"panoptic_{work_dir.name}",
            "train_cfg.max_iters": 2,
            "train_cfg.val_interval": 2,
            "param_scheduler": [],
            "default_hooks.checkpoint": {"type": "CheckpointHook", "interval": -1},
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    return cfg


@pytest.mark.mmdet
def test_mmdet(tmp_path: Path) -> None:
    from mmengine.runner import Runner

    runner = Runner.from_cfg(mmdet_config(tmp_path))
    before = {key: p.detach().clone() for key, p in runner.model.named_parameters()}
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert runner.iter == 2 and np.isfinite(scalars["train/loss_seg"].current())
    assert 0 <= scalars["val/coco_panoptic/PQ"].current() <= 100
    parts = ("semantic_head.semantic_merge", "semantic_head.conv_logits", "backbone.neck")
    for part in parts:
        assert any(key.startswith(part) and not p.equal(before[key]) for key, p in runner.model.named_parameters())


def segments_of(found: PanopticSplit) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Annotation and segment ids of each image."""
    import json

    from panopticapi.utils import rgb2id
    from PIL import Image

    annotations = json.loads(found.ann_file.read_text())["annotations"]
    return [(a, rgb2id(np.asarray(Image.open(found.mask_dir / a["file_name"])))) for a in annotations]


@pytest.mark.mmdet
@pytest.mark.parametrize("swapped", [False, True])
def test_ground_truth_as_prediction_has_pq_100_in_mmdet(tiny_coco: Path, tmp_path: Path, swapped: bool) -> None:
    """The config's metric gives PQ 100, and less if two kinds of stuff are swapped."""
    import torch
    from mmdet.registry import METRICS
    from mmdet.structures import INSTANCE_OFFSET

    cfg = mmdet_config(tmp_path)
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = cfg.val_dataloader.dataset.metainfo
    found = find_panoptic_split(tiny_coco, "val")
    classes = [*found.things, *found.stuff]
    images = segments_of(found)
    for annotation, ids in images:
        predicted = np.zeros_like(ids)
        for number, segment in enumerate(annotation["segments_info"], start=1):
            label = classes.index(segment["category_id"])
            if label >= len(found.things):
                label = len(classes) - 1 - (label - len(found.things)) if swapped else label
                number = 0  # stuff has no instances
            predicted[ids == segment["id"]] = label + number * INSTANCE_OFFSET
        sample = {
            "img_id": annotation["image_id"],
            "img_path": annotation["file_name"].replace(".png", ".jpg"),
            "ori_shape": ids.shape,
            "pred_panoptic_seg": {"sem_seg": torch.from_numpy(predicted)[None]},
        }
        metric.process({}, [sample])
    results = metric.evaluate(len(images))
    assert results["coco_panoptic/PQ_th"] == 100
    assert (results["coco_panoptic/PQ"] == 100) == (not swapped)


def lazy_config(work_dir: Path) -> Any:
    """LazyConfig of the demo without prepared weights."""
    from detectron2.config import LazyConfig

    cfg = LazyConfig.load(str(CONFIGS / "detectron2/demo_panoptic_fpn.py"))
    cfg.model.backbone.bottom_up.checkpoint = None
    cfg.train.output_dir = str(work_dir)
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    cfg.model.combine_instances_score_thresh = 0.0  # scores are low after two iterations
    return cfg


@pytest.mark.detectron2
def test_detectron2(tmp_path: Path) -> None:
    import torch
    from detectron2.config import instantiate
    from detectron2.engine import SimpleTrainer
    from detectron2.evaluation import inference_on_dataset

    cfg = lazy_config(tmp_path)
    model = instantiate(cfg.model).to("cpu")
    parts = (model.sem_seg_head.semantic_merge, model.sem_seg_head.predictor, model.backbone.neck)
    before = [[p.detach().clone() for p in part.parameters()] for part in parts]
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), torch.optim.SGD(model.parameters(), lr=1e-3))
    trainer.train(0, 2)
    for part, old in zip(parts, before, strict=True):
        assert any(not p.equal(was) for p, was in zip(part.parameters(), old, strict=True))
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
    assert 0 <= results["panoptic_seg"]["PQ"] <= 100
    assert {"bbox", "sem_seg"} <= results.keys() and 0 <= results["sem_seg"]["mIoU"] <= 100


@pytest.mark.detectron2
@pytest.mark.parametrize("swapped", [False, True])
def test_ground_truth_as_prediction_has_pq_100_in_detectron2(tiny_coco: Path, swapped: bool) -> None:
    """Detectron2's evaluator on our data set gives PQ 100, and less if two kinds of stuff are swapped."""
    import torch
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOPanopticEvaluator

    from fpn_plugins.adapters.detectron2 import register_coco_panoptic_folder

    name = register_coco_panoptic_folder(tiny_coco)[1]
    metadata = MetadataCatalog.get(name)
    evaluator = COCOPanopticEvaluator(name)
    evaluator.reset()
    found = find_panoptic_split(tiny_coco, "val")
    for annotation, ids in segments_of(found):
        segments = []
        for segment in annotation["segments_info"]:
            isthing = segment["category_id"] in found.things
            kind = "thing" if isthing else "stuff"
            label = metadata.get(f"{kind}_dataset_id_to_contiguous_id")[segment["category_id"]]
            label = len(found.stuff) + 1 - label if swapped and not isthing else label
            segments.append({"id": segment["id"], "isthing": isthing, "category_id": label})
        image = {"file_name": annotation["file_name"], "image_id": annotation["image_id"]}
        evaluator.process([image], [{"panoptic_seg": (torch.from_numpy(ids), segments)}])
    results = evaluator.evaluate()["panoptic_seg"]
    assert results["PQ_th"] == 100
    assert (results["PQ"] == 100) == (not swapped)


@pytest.mark.detectron2
def test_detectron2_reads_consistent_labels(tiny_coco: Path) -> None:
    """Instances and semantic labels of each image agree pixel by pixel: things have label 0."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from PIL import Image
    from pycocotools import mask as mask_api

    from fpn_plugins.adapters.detectron2 import register_coco_panoptic_folder

    names = register_coco_panoptic_folder(tiny_coco)
    assert names == ("coco_panoptic_folder_train_separated", "coco_panoptic_folder_val_separated")
    assert register_coco_panoptic_folder(tiny_coco) == names  # a second time changes nothing
    assert MetadataCatalog.get(names[0]).stuff_classes == ["things", "plain", "hatched", "dotted"]
    for record in DatasetCatalog.get(names[0]):
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        covered = np.zeros(labels.shape, dtype=bool)
        for annotation in record["annotations"]:
            rle = annotation["segmentation"]
            if isinstance(rle, list):
                rle = mask_api.merge(mask_api.frPyObjects(rle, *labels.shape))
            covered |= mask_api.decode(rle).astype(bool)
        assert np.array_equal(labels == 0, covered) and labels.max() <= 3


@pytest.mark.detectron2
@pytest.mark.parametrize("stem", ["demo_panoptic_fpn", "panoptic_fpn_r50_12e"])
def test_the_semantic_evaluator_reads_labels_with_any_numpy(stem: str, tiny_coco: Path) -> None:
    from detectron2.config import LazyConfig
    from detectron2.evaluation import SemSegEvaluator

    evaluators = LazyConfig.load(str(CONFIGS / f"detectron2/{stem}.py")).dataloader.evaluator
    (semantic,) = (evaluator for evaluator in evaluators if evaluator._target_ is SemSegEvaluator)
    file = find_panoptic_split(tiny_coco, "val").stuff_dir / "000000000001.png"
    labels = semantic.sem_seg_loading_fn(str(file), dtype=int)
    assert labels.shape in ((240, 320), (320, 240)) and set(np.unique(labels)) <= {0, 1, 2, 3}
