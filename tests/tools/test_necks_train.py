"""Every registered neck trains two iterations and evaluates on the synthetic set, in both toolboxes' own loops."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fpn_plugins import NECKS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CHANNELS = 32

# strides of the outputs on C2..C5, and the neck in each toolbox's vocabulary; a registered neck that is missing fails
PYRAMID = [4, 8, 16, 32, 64]
CASES: dict[str, tuple[list[int], Any, Any]] = {
    "FPN": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "PAFPN": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "SSDPyramid": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "SingleScale": ([32], {"num_outs": 1, "start_level": 3}, {}),
    "BiFPN": (PYRAMID, {"num_outs": 5, "num_repeats": 1}, {"num_extra_levels": 1, "num_repeats": 1}),
    "NASFPN": (PYRAMID, {"num_outs": 5, "stack_times": 1}, {"num_repeats": 1}),
    "CSPPAFPN": (PYRAMID[:4], {"num_csp_blocks": 1}, {"num_blocks": 1}),
    "SimpleFeaturePyramid": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "BFP": (PYRAMID, None, None),
}
# which of the network's maps the neck stands on, where it is not all of C2..C5
OUT_INDICES = {"SimpleFeaturePyramid": [3]}


def test_every_neck_has_a_case() -> None:
    assert set(CASES) == set(NECKS)


def mmdet_neck(name: str) -> Any:
    """The neck's config for mmdet; BFP stands behind an FPN."""
    if name == "BFP":
        fpn = {"type": "fpn_plugins.FPN", "in_channels": [24, 32, 96, 320], "out_channels": CHANNELS, "num_outs": 5}
        return [fpn, {"type": "fpn_plugins.BFP", "in_channels": CHANNELS, "num_levels": 5, "refine_type": "non_local"}]
    return {"type": name, "out_channels": CHANNELS, **CASES[name][1]}


def mmdet_config(name: str, tiny_coco: Path, work_dir: Path) -> Any:
    """The demo's config with another neck, heads on its levels, and two iterations."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(CONFIGS / "mmdet/demo_mask_rcnn.py"))
    strides, neck, model = CASES[name][0], mmdet_neck(name), cfg.model
    model.backbone.backbone.update(checkpoint=None, out_indices=OUT_INDICES.get(name, [1, 2, 3, 4]))
    if isinstance(neck, list):
        model.backbone = {**model.backbone.backbone, "type": "fpn_plugins.TimmBackbone"}
        model.neck = neck
    else:
        model.backbone.neck = neck
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    model.rpn_head.anchor_generator.strides = strides
    model.test_cfg.rcnn.score_thr = 0.0  # after two iterations nothing is certain
    for part in ("bbox", "mask"):
        extractor = model.roi_head[f"{part}_roi_extractor"]
        extractor.update(out_channels=CHANNELS, featmap_strides=strides[:4])
        model.roi_head[f"{part}_head"].in_channels = CHANNELS
    cfg.merge_from_dict(
        {
            "work_dir": str(work_dir),
            "train_cfg.max_iters": 2,
            "train_cfg.val_interval": 2,
            "param_scheduler": [],
            "default_hooks.checkpoint": {"type": "CheckpointHook", "interval": -1},
            "custom_hooks": [],
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    return cfg


@pytest.fixture(autouse=True)
def coco_folder(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the demo's configs read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


@pytest.mark.mmdet
@pytest.mark.parametrize("name", sorted(CASES))
def test_mmdet(name: str, tiny_coco: Path, tmp_path: Path) -> None:
    from mmengine.runner import Runner

    cfg = mmdet_config(name, tiny_coco, tmp_path)
    cfg.experiment_name = f"{name}_{tmp_path.name}"
    runner = Runner.from_cfg(cfg)
    before = copy.deepcopy({key: p.detach().clone() for key, p in runner.model.named_parameters()})
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars["train/loss"].current() == scalars["train/loss"].current()  # not NaN
    assert runner.iter == 2 and "val/coco/segm_mAP" in scalars
    part = "neck" if name == "BFP" else "backbone.neck"
    moved = [key for key, p in runner.model.named_parameters() if part in key and not p.equal(before[key])]
    assert moved


@pytest.mark.detectron2
@pytest.mark.parametrize("name", sorted(CASES))
def test_detectron2(name: str, tiny_coco: Path, tmp_path: Path) -> None:
    import torch
    from detectron2.config import LazyConfig, instantiate
    from detectron2.engine import SimpleTrainer
    from detectron2.evaluation import inference_on_dataset

    cfg = LazyConfig.load(str(CONFIGS / "detectron2/demo_mask_rcnn.py"))
    adapt(cfg.model, name)
    cfg.train.output_dir = str(tmp_path)
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    model = instantiate(cfg.model).to("cpu")
    before = {key: p.detach().clone() for key, p in model.backbone.neck.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), optimizer)
    trainer.train(0, 2)
    assert any(not p.equal(before[key]) for key, p in model.backbone.neck.named_parameters())
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
    assert "bbox" in results


def adapt(model: Any, name: str) -> None:
    """Another neck in the demo's LazyConfig, and heads on its levels."""
    from detectron2.layers import ShapeSpec

    strides = CASES[name][0]
    neck = {"type": name, "out_channels": CHANNELS, **(CASES[name][2] or {})}
    if name == "BFP":
        neck = [{"type": "FPN", "out_channels": CHANNELS, "extra_levels": {"num_levels": 1}}, {"type": "BFP"}]
    model.backbone.bottom_up.update(checkpoint=None, out_indices=OUT_INDICES.get(name, [1, 2, 3, 4]))
    model.backbone.neck = neck
    levels = [f"p{stride.bit_length() - 1}" for stride in strides]
    rpn, roi = model.proposal_generator, model.roi_heads
    rpn.in_features, rpn.head.in_channels = levels, CHANNELS
    rpn.anchor_generator.strides = strides
    rpn.anchor_generator.sizes = [[4 * stride] for stride in strides]
    roi.box_in_features = roi.mask_in_features = levels[:4]
    for pooler, head, side in ((roi.box_pooler, roi.box_head, 7), (roi.mask_pooler, roi.mask_head, 14)):
        pooler.scales = tuple(1 / stride for stride in strides[:4])
        head.input_shape = ShapeSpec(channels=CHANNELS, height=side, width=side)
