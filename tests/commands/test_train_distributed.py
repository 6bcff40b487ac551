"""Three iterations on two processes without a GPU, by the commands of both toolboxes."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY_SWIN = (
    'type="Swin", name="swin_tiny_patch4_window7_224", embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8)'
)
TOGETHER = f"""
backbone=dict(
    _delete_=True,
    type="fpn_plugins.PyramidBackbone",
    backbone=dict({TINY_SWIN}),
    neck=dict(type="FPN", out_channels=64, num_outs=5, start_level=1),
)"""
APART = f"""
backbone=dict(_delete_=True, {TINY_SWIN.replace('type="', 'type="fpn_plugins.')}),
neck=dict(
    _delete_=True,
    type="fpn_plugins.FPN",
    in_channels=[16, 32, 64, 128],
    out_channels=64,
    num_outs=5,
    start_level=1,
)"""
MMDET_SHORT = [
    "train_cfg.max_iters=3",
    "train_cfg.val_interval=3",
    "default_hooks.checkpoint.interval=3",
    "default_hooks.logger.interval=1",
    "param_scheduler.0.end=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "env_cfg.dist_cfg.backend=gloo",
]
LAZY_SHORT = [
    "train.max_iter=3",
    "train.eval_period=0",
    "train.log_period=1",
    "lr_multiplier.warmup_length=0.5",
    "dataloader.train.num_workers=0",
    "model.backbone.bottom_up.checkpoint=null",
    "model.backbone.neck.norm=naiveSyncBN",
]


def python(arguments: list[str], tiny_coco: Path) -> tuple[int, str]:
    """Run a script from the repository's root; return its exit code and what it printed."""
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco), "OMP_NUM_THREADS": "1", "FPN_PLUGINS_CHECK_DATA": "0"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout + done.stderr


def train_in_mmdet(model: str, tiny_coco: Path, folder: Path) -> tuple[int, str]:
    """Train the demo's RetinaNet with other features."""
    config = folder / "config.py"
    base = ROOT / "configs/mmdet/demo_retinanet.py"
    config.write_text(f'_base_ = ["{base}"]\nmodel = dict({model}\n)\n')
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "tools/train.py", config]
    return python([*launched, "--launcher", "pytorch", "--work-dir", folder, "--cfg-options", *MMDET_SHORT], tiny_coco)


@pytest.mark.mmdet
def test_mmdet_trains_a_pyramid_that_leaves_a_map_unread(tiny_coco: Path, tmp_path: Path) -> None:
    code, text = train_in_mmdet(TOGETHER, tiny_coco, tmp_path)
    assert code == 0, text[-4000:]
    assert "Distributed training: True" in text and "GPU number: 2" in text
    assert "Iter(train) [3/3]" in text and (tmp_path / "iter_3.pth").is_file()


@pytest.mark.mmdet
def test_mmdet_is_told_in_the_first_step_that_a_norm_is_unread(tiny_coco: Path, tmp_path: Path) -> None:
    code, text = train_in_mmdet(APART, tiny_coco, tmp_path)
    assert code != 0 and "Iter(train) [1/3]" not in text
    assert "2 parameters got no gradient in the first step: backbone.norm0.weight, backbone.norm0.bias." in text


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, False),
        ({"find_unused_parameters": True}, True),
        ({"find_unused_parameters": True, "model_wrapper_cfg": {"find_unused_parameters": False}}, False),
        ({"model_wrapper_cfg": {"find_unused_parameters": True}}, True),
    ],
)
def test_mmengines_option_holds_without_a_gpu(options: dict, found: bool, tmp_path: Path) -> None:
    from fpn_plugins.commands.train import looks_for_unused

    config = tmp_path / "config.py"
    config.write_text("find_unused_parameters = False\n")
    args = Namespace(config=str(config), cfg_options=options)
    assert looks_for_unused(args) is found


@pytest.mark.detectron2
def test_detectron2_trains_a_lazy_config(tiny_coco: Path, tmp_path: Path) -> None:
    """With Detectron2's own norm over all processes."""
    config = ["--config-file", "configs/detectron2/demo_mask_rcnn.py", "--num-gpus", "2"]
    options = [*LAZY_SHORT, f"train.output_dir={tmp_path}"]
    code, text = python(["tools/train_net.py", *config, *options], tiny_coco)
    assert code == 0, text[-4000:]
    assert "World size: 2" in text and "iter: 2" in text and "naiveSyncBN" in text


@pytest.mark.detectron2
def test_detectron2_trains_a_yaml_config(tiny_coco: Path, tmp_path: Path) -> None:
    text = (ROOT / "configs/detectron2/demo_retinanet.yaml").read_text()
    config = tmp_path / "demo.yaml"
    config.write_text("\n".join(line for line in text.splitlines() if "checkpoint:" not in line))
    options = ["SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "0", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", tmp_path]
    code, out = python(["tools/train_net.py", "--config-file", config, "--num-gpus", "2", *options], tiny_coco)
    assert code == 0, out[-4000:]
    assert "World size: 2" in out and (tmp_path / "model_final.pth").is_file()
