"""Small versions of our own backbones train two iterations and evaluate on the synthetic set, in both toolboxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

CASES: dict[str, dict[str, Any]] = {
    "MViT": {
        "name": "mvitv2_tiny",
        "embed_dim": 16,
        "last_block_indices": [0, 2, 4, 6],
        "window_size": 16,
        "drop_path_rate": 0.1,
        "gradient_checkpointing": True,
    },
}


@pytest.fixture(autouse=True)
def coco_folder(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the demo's configs read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


@pytest.mark.mmdet
@pytest.mark.parametrize("name", sorted(CASES))
def test_mmdet(name: str, tmp_path: Path) -> None:
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(str(CONFIGS / "mmdet/demo_mask_rcnn.py"))
    cfg.model.backbone.backbone = {"type": name, **CASES[name]}
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # after two iterations nothing is certain
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path),
            "experiment_name": f"{name}_{tmp_path.name}",
            "train_cfg.max_iters": 2,
            "train_cfg.val_interval": 2,
            "param_scheduler": [],
            "default_hooks.checkpoint": {"type": "CheckpointHook", "interval": -1},
            "custom_hooks": [],
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    before = {key: p.detach().clone() for key, p in runner.model.backbone.backbone.named_parameters()}
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars["train/loss"].current() == scalars["train/loss"].current()  # not NaN
    assert runner.iter == 2 and "val/coco/segm_mAP" in scalars
    assert all(not p.equal(before[key]) for key, p in runner.model.backbone.backbone.named_parameters())


@pytest.mark.detectron2
@pytest.mark.parametrize("name", sorted(CASES))
def test_detectron2(name: str, tmp_path: Path) -> None:
    import torch
    from detectron2.config import LazyConfig, instantiate
    from detectron2.engine import SimpleTrainer
    from detectron2.evaluation import inference_on_dataset

    cfg = LazyConfig.load(str(CONFIGS / "detectron2/demo_mask_rcnn.py"))
    cfg.model.backbone.bottom_up = {"type": name, **CASES[name]}
    cfg.train.output_dir = str(tmp_path)
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    model = instantiate(cfg.model).to("cpu")
    before = {key: p.detach().clone() for key, p in model.backbone.bottom_up.named_parameters()}
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), torch.optim.AdamW(model.parameters(), lr=1e-3))
    trainer.train(0, 2)
    assert all(not p.equal(before[key]) for key, p in model.backbone.bottom_up.named_parameters())
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
    assert "bbox" in results
