"""A training that is watched: what each backend gets, and that the training itself is the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from seeds import seed
from tiny_detector import write_config
from tracking import images_of, logged_by_mlflow, scalars_of

pytestmark = pytest.mark.mmdet
CHANGES = """
model["bbox_head"]["num_classes"] = 4
model["train_cfg"] = dict(
    assigner=dict(type="mmdet.MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
    sampler=dict(type="mmdet.PseudoSampler"),
    allowed_border=-1,
    pos_weight=-1,
    debug=False,
)
model["test_cfg"] = dict(nms_pre=100, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20)
data_root = {root!r}
load = [dict(type="LoadImageFromFile"), dict(type="mmdet.Resize", scale=(160, 96), keep_ratio=True)]
annotations = dict(type="mmdet.LoadAnnotations", with_bbox=True)
pack = dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        metainfo=dict(classes=classes),
        pipeline=[load[0], annotations, load[1], dict(type="mmdet.RandomFlip", prob=0.5), pack],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=[*load, annotations, pack],
    ),
)
val_evaluator = dict(
    type="mmdet.CocoMetric", ann_file=data_root + "/annotations/instances_val2017.json", metric="bbox"
)
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.001))
default_hooks = dict(logger=dict(type="mmengine.LoggerHook", interval=1, log_metric_by_epoch=False))
visualizer = dict(type="mmdet.DetLocalVisualizer", vis_backends=[dict(type="mmengine.LocalVisBackend")])
randomness = dict(seed=0)
default_scope = "mmdet"
"""
BACKENDS = """
visualizer["vis_backends"] += [
    dict(type="mmengine.TensorboardVisBackend"),
    dict(type="mmengine.WandbVisBackend", init_kwargs=dict(project="p")),
    dict(type="mmengine.MLflowVisBackend", exp_name="e", tracked_config_keys=["train_cfg"], tracking_uri={store!r}),
]
"""


class Run(NamedTuple):
    """A finished training: its folder, its runner, and the weights."""

    folder: Path
    runner: Any
    weights: dict[str, torch.Tensor]


def train(folder: Path, coco: Path, changes: str = "") -> Run:
    """Train for two epochs."""
    import json

    from mmengine.config import Config
    from mmengine.runner import Runner

    names = [
        entry["name"] for entry in json.loads((coco / "annotations/instances_val2017.json").read_text())["categories"]
    ]
    text = f"classes = {tuple(names)!r}\n" + CHANGES.replace("{root!r}", repr(str(coco)))
    cfg = Config.fromfile(write_config(folder / "config.py", text + changes))
    cfg.work_dir, cfg.experiment_name = str(folder), folder.name
    seed(0)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return Run(folder, runner, {name: value.clone() for name, value in runner.model.state_dict().items()})


@pytest.fixture(scope="module")
def watched(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with both hooks and every backend."""
    folder = tmp_path_factory.mktemp("watched")
    hooks = [
        {"type": "fpn_plugins.ValidationLossHook", "max_images": 3},
        {"type": "fpn_plugins.PyramidVisualizationHook", "num_images": 1, "score_thr": 0.0},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.chdir(folder)  # W&B keeps the code in it
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        changes = f"custom_hooks = {hooks!r}\n" + BACKENDS.replace("{store!r}", repr(f"file://{folder}/mlruns"))
        return train(folder / "run", tiny_coco, changes)


def test_the_training_is_the_same_without_hooks(watched: Run, tiny_coco: Path, tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", tiny_coco)
    assert all(torch.equal(value, watched.weights[name]) for name, value in alone.weights.items())


def test_every_backend_gets_losses_metrics_and_pictures(watched: Run) -> None:
    (events,) = {path.parent for path in watched.folder.rglob("events.out.tfevents.*")}
    scalars = scalars_of(events)
    for tag in ("val/loss", "val/loss_cls", "val/loss_bbox", "coco/bbox_mAP_s", "coco/bbox_mAP_l"):
        assert [step for step, _ in scalars[tag]] == [4, 8], tag
    assert "loss_cls" in scalars
    pictures = images_of(events)
    kinds = {tag.split("/")[0]: tag.split("/")[1] for tag in pictures}
    assert set(kinds) == {"detections", "levels"} and len(pictures) == 2
    assert {step for steps in pictures.values() for step in steps} == {4, 8}
    assert len(list(watched.folder.rglob("vis_image/levels/*.png"))) == 2
    metrics, images = logged_by_mlflow(watched.folder.parent / "mlruns")
    assert {"val/loss", "val/loss_cls", "coco/bbox_mAP_m"} <= metrics and len(images) == 4
    offline = next(watched.folder.rglob("offline-run-*"))
    assert list(offline.glob("*.wandb")) and len(list((offline / "files/media").rglob("*.png"))) == 4


def test_the_loss_is_that_of_the_model(watched: Run) -> None:
    """Every image of the subset alone: no batch, no hook, no data loader."""
    from mmengine.registry import DATASETS

    model, cfg = watched.runner.model.eval(), watched.runner.cfg
    config = cfg.val_dataloader.dataset
    image, resize, annotations, pack = config.pipeline
    config.pipeline = [image, annotations, resize, pack]
    dataset = DATASETS.build(config)
    losses = []
    for images in ([0, 2], [3]):  # evenly spaced, in batches of the training's size
        data = {"inputs": [], "data_samples": []}
        for index in images:
            data["inputs"].append(dataset[index]["inputs"])
            data["data_samples"].append(dataset[index]["data_samples"])
        with torch.no_grad():
            found = model(**model.data_preprocessor(data, True), mode="loss")
        losses.append(float(model.parse_losses(found)[0]))
    (events,) = {path.parent for path in watched.folder.rglob("events.out.tfevents.*")}
    assert scalars_of(events)["val/loss"][-1][1] == pytest.approx((2 * losses[0] + losses[1]) / 3, rel=1e-5)


def test_pictures_show_the_image_and_the_levels(watched: Run) -> None:
    (events,) = {path.parent for path in watched.folder.rglob("events.out.tfevents.*")}
    pictures = images_of(events)
    for tag, steps in pictures.items():
        first, last = (steps[step] for step in (4, 8))
        assert first.shape == last.shape and first.std() > 20
        assert not np.array_equal(first, last), tag


def test_malformed_masks_are_not_drawn() -> None:
    from fpn_plugins.adapters.mmdet.watched_data import annotated_objects

    square = [2, 2, 8, 2, 8, 8, 2, 8]
    masks = [
        [square],
        [[1, 2, 3, 4], square],
        [[1, 2, 3]],
        {"size": [20, 30], "counts": [590, 10]},
        {"size": [20, 30], "counts": [9]},
        {"size": [20, 30], "counts": "P"},
        {"size": [9, 9], "counts": [81]},
        None,
    ]
    instances = [{"bbox": [0, 0, 9, 9], "bbox_label": 0, "mask": mask, "ignore_flag": 0} for mask in masks]
    info = {"height": 20, "width": 30, "instances": instances}
    found = annotated_objects(SimpleNamespace(get_data_info=lambda _: info), 0)
    assert [entry.get("segmentation") for entry in found] == [[square], [square], None, masks[3], *[None] * 4]


def test_mlflow_gets_pictures_of_files_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    from mmengine.visualization import MLflowVisBackend

    from fpn_plugins.adapters.mmdet.watching import _publish

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    backend = MLflowVisBackend(str(tmp_path), exp_name="e", tracking_uri=f"file://{tmp_path}/mlruns")
    try:
        for name in ("levels/IMG (1)", "levels/é"):
            _publish(SimpleNamespace(_vis_backends={"mlflow": backend}), name, np.zeros((9, 9, 3), np.uint8), 3)
    finally:
        mlflow.end_run()
    assert len(logged_by_mlflow(tmp_path / "mlruns")[1]) == 2


def test_a_training_without_validation_is_refused() -> None:
    from types import SimpleNamespace

    from fpn_plugins.adapters.mmdet import ValidationLossHook

    with pytest.raises(ValueError, match="this config has none: set val_dataloader"):
        ValidationLossHook().before_train(SimpleNamespace(val_loop=None))
    with pytest.raises(ValueError, match="max_images=0"):
        ValidationLossHook(max_images=0)
