"""A training that is watched: what each writer gets, and that the training itself is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from seeds import seed
from tracking import images_of, logged_by_mlflow, scalars_of

pytestmark = pytest.mark.detectron2
ROOT = Path(__file__).resolve().parents[3]
YAML = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  WEIGHTS: ""
  MASK_ON: True
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res2, res3, res4, res5], NORM: BN}
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 8}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], POST_NMS_TOPK_TRAIN: 50, POST_NMS_TOPK_TEST: 20}
  ROI_HEADS:
    NAME: StandardROIHeads
    IN_FEATURES: [p2, p3, p4, p5]
    NUM_CLASSES: 4
    BATCH_SIZE_PER_IMAGE: 8
    SCORE_THRESH_TEST: 0.0
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 3}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 4}
DATASETS: {TRAIN: [watched_train], TEST: [watched_val]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [96], MIN_SIZE_TEST: 96, MASK_FORMAT: bitmask}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.001, MAX_ITER: 4}
TEST: {EVAL_PERIOD: 2, DETECTIONS_PER_IMAGE: 10}
SEED: 1
VERSION: 2
"""
WATCH = ["WATCH.VAL_LOSS", "True", "WATCH.MAX_IMAGES", "3", "WATCH.PICTURES", "1", "WATCH.MIN_SCORE", "0.0"]


class Run(NamedTuple):
    """A finished training: its folder, its trainer, and the weights."""

    folder: Path
    trainer: Any
    weights: dict[str, torch.Tensor]


def train(folder: Path, coco: Path, *options: str) -> Run:
    """Train for four iterations."""
    from fpn_plugins.adapters.detectron2 import register_coco_folder
    from fpn_plugins.adapters.detectron2.engine import Trainer
    from fpn_plugins.adapters.detectron2.reading import read_yaml

    folder.mkdir(exist_ok=True)
    (folder / "given.yaml").write_text(YAML)
    register_coco_folder(coco, "watched")
    cfg = read_yaml(str(folder / "given.yaml"), [*options, "OUTPUT_DIR", str(folder)])
    (folder / "config.yaml").write_text(cfg.dump())
    seed(0)
    trainer = Trainer(cfg)
    trainer.train()
    return Run(folder, trainer, {name: value.clone() for name, value in trainer.model.state_dict().items()})


@pytest.fixture(scope="module")
def watched(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with both hooks and every writer."""
    import mlflow

    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.chdir(folder)  # W&B keeps the code in it
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri(f"file://{folder}/mlruns")  # it stands above MLFLOW_TRACKING_URI in this process
        return train(folder, tiny_coco, *WATCH, "WATCH.WRITERS", "['wandb','mlflow']")


def test_the_training_is_the_same_without_hooks(watched: Run, tiny_coco: Path, tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", tiny_coco)
    assert all(torch.equal(value, watched.weights[name]) for name, value in alone.weights.items())


def test_every_writer_gets_losses_metrics_and_pictures(watched: Run) -> None:
    scalars = scalars_of(watched.folder)
    for tag in ("val/total_loss", "val/loss_cls", "val/loss_mask", "val/loss_rpn_loc", "bbox/APs", "segm/APl"):
        assert [step for step, _ in scalars[tag]][-1] == 4, tag
    assert "total_loss" in scalars
    pictures = images_of(watched.folder)
    assert {tag.split("/")[0] for tag in pictures} == {"detections", "levels"} and len(pictures) == 2
    assert {step for steps in pictures.values() for step in steps} == {1, 4}
    assert all(picture.std() > 20 for steps in pictures.values() for picture in steps.values())
    metrics, images = logged_by_mlflow(watched.folder / "mlruns")
    assert {"val/total_loss", "val/loss_mask", "bbox/APm"} <= metrics and len(images) == 4
    assert next(watched.folder.rglob("artifacts/config.yaml")).read_text()
    offline = next(watched.folder.rglob("offline-run-*"))
    assert list(offline.glob("*.wandb")) and len(list((offline / "files/media").rglob("*.png"))) == 4


def test_the_loss_is_that_of_the_model(watched: Run) -> None:
    """Batches of two and one evenly spaced images, read without a loader."""
    from detectron2.data import DatasetMapper, get_detection_dataset_dicts
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.utils.events import EventStorage

    from fpn_plugins.resuming import seed_all

    mapper = DatasetMapper(watched.trainer.cfg, True, augmentations=[ResizeShortestEdge(96, 1333)])
    images = [mapper(entry) for entry in get_detection_dataset_dicts("watched_val", filter_empty=False)]
    model = watched.trainer.model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    losses = []
    for number, batch in enumerate(([images[0], images[2]], [images[3]])):
        seed_all(0, number)  # sampled regions
        with torch.no_grad(), EventStorage():
            losses.append(float(sum(model(batch).values())))
    logged = scalars_of(watched.folder)["val/total_loss"][-1][1]
    assert logged == pytest.approx((2 * losses[0] + losses[1]) / 3, rel=1e-5)


@pytest.mark.parametrize("name", ["demo_mask_rcnn", "demo_panoptic_fpn", "mask_rcnn_r50_fpn_coco_folder"])
def test_lazy_configs_are_watched(name: str, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    from fpn_plugins.adapters.detectron2 import PyramidVisualization, ValidationLoss, watching_hooks
    from fpn_plugins.adapters.detectron2.datasets import register_from_environment
    from fpn_plugins.adapters.detectron2.reading import read_lazy

    register_from_environment()
    path = str(ROOT / f"configs/detectron2/{name}.py")
    assert watching_hooks(read_lazy(path)) == []
    watch = ["train.watch.val_loss=True", "train.watch.pictures=1"]
    cfg = read_lazy(path, [*watch, "train.eval_period=7", "dataloader.train.num_workers=0"])
    loss, pictures = watching_hooks(cfg)
    assert isinstance(loss, ValidationLoss) and isinstance(pictures, PyramidVisualization)
    assert loss.period == pictures.period == 7 and len(pictures.names) >= 4
    sample = next(iter(loss.loader))[0]
    assert sample["instances"].has("gt_boxes")
    assert sample["image"].shape == pictures.mapper(pictures.images[0])["image"].shape


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val_losses": True}, "must have keys of"),
        ({"writers": ["wb"]}, "watch.writers"),
        ({"pictures": -1}, "watch.pictures=-1"),
        ({"val_loss": "yes"}, "watch.val_loss='yes'"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], message: str) -> None:
    from fpn_plugins.adapters.detectron2.watch_config import read_watch

    with pytest.raises((TypeError, ValueError), match=message):
        read_watch(given)


@pytest.mark.parametrize("loaders", [{}, {"test": {"dataset": {"names": []}}}])
def test_a_lazy_config_without_a_validation_set_is_refused(loaders: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    from fpn_plugins.adapters.detectron2.watch_config import watching_hooks

    cfg = OmegaConf.create({"train": {"watch": {"pictures": 1}, "eval_period": 1}, "dataloader": loaders})
    with pytest.raises(ValueError, match="needs a validation set"):
        watching_hooks(cfg)


def test_mlflow_gets_pictures_of_files_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from fpn_plugins.adapters.detectron2.writers import MLflowWriter

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    writer = MLflowWriter(str(tmp_path))
    try:
        pictures = {name: np.zeros((9, 9, 3), np.uint8) for name in ("levels/IMG (1):", "levels/é", "levels/ü")}
        writer.log({**pictures, "bbox/AP-é": 1.0}, 3)
    finally:
        writer.close()
        mlflow.set_tracking_uri(None)
    metrics, images = logged_by_mlflow(tmp_path / "mlruns")
    assert metrics == {"bbox/AP-é"} and len(images) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bbox/AP-disk", "bbox/AP-disk"),
        ("bbox/AP-a, 'b' é", "bbox/AP-a_ _b_ é"),
        ("bbox/AP-N//A/", "bbox/AP-N/A"),
        ("/a/../b/.", "a/__/b/_"),
    ],
)
def test_names_of_classes_become_those_that_mlflow_allows(name: str, expected: str):
    import posixpath

    from fpn_plugins.adapters.detectron2.writers import mlflow_name

    assert mlflow_name(name) == expected == posixpath.normpath(expected)
