"""mmdet's own scripts train and test on our operators, in an mmcv without a compiled extension, as on the compiled."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.mmdet
ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ("demo_retinanet", "demo_mask_rcnn")
OPTIONS = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=9",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "param_scheduler.0.end=2",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
    "model.backbone.backbone.checkpoint=None",
    "randomness.seed=0",
    "model.test_cfg.score_thr=0.0",  # after two iterations nothing is certain
    "model.test_cfg.rcnn.score_thr=0.0",
    "model.test_cfg.max_per_img=20",
    "model.test_cfg.rcnn.max_per_img=20",
]
# both scripts for every config in one process
DRIVER = """
import os, runpy, sys
import mmcv._ext

print("extension:", mmcv._ext.__file__)
tools, folder, *configs = sys.argv[1:]
options = os.environ["OPTIONS"].split()
for config in configs:
    work = f"{folder}/{config}"
    common = ["--work-dir", work, "--cfg-options", *options]
    sys.argv = ["train.py", f"configs/mmdet/{config}.py", *common]
    runpy.run_path(f"{tools}/train.py", run_name="__main__")
    sys.argv = ["test.py", f"configs/mmdet/{config}.py", f"{work}/iter_2.pth", "--out", f"{work}/found.pkl", *common]
    runpy.run_path(f"{tools}/test.py", run_name="__main__")
"""
# what a user sees first
INSTALL = """
from fpn_plugins.commands.mmcv_operators import main

try:
    import fpn_plugins.adapters.mmdet
except ImportError as error:
    print(error)
main(["install"])
"""


def environment(tiny_coco: Path, *path: Path) -> dict[str, str]:
    first = os.pathsep.join(map(str, (*path, ROOT)))
    more = {"FPN_PLUGINS_COCO": str(tiny_coco), "PYTHONPATH": first, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **more, "OPTIONS": " ".join(OPTIONS), "FPN_PLUGINS_CHECK_DATA": "0"}


def python(arguments: list[Any], env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-4000:]
    return text


@pytest.fixture(scope="module")
def uncompiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of mmcv's Python files."""
    folder = tmp_path_factory.mktemp("site")
    source = Path(find_spec("mmcv").origin).parent
    shutil.copytree(source, folder / "mmcv", ignore=shutil.ignore_patterns("_ext*", "csrc", "__pycache__"))
    return folder


def run(folder: Path, tiny_coco: Path, *path: Path) -> tuple[str, list[dict[str, float]], list[Any]]:
    """Return what the scripts printed, the losses of each iteration, and the detections of every image."""
    tools = Path(find_spec("mmdet").origin).parent / ".mim" / "tools"
    text = python(["-c", DRIVER, tools, folder, *CONFIGS], environment(tiny_coco, *path))
    (scalars,) = folder.glob("*/*/vis_data/scalars.json")  # mmengine goes on in the first one
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [{key: value for key, value in row.items() if "loss" in key} for row in rows if "loss" in row]
    return (
        text,
        losses,
        [image for name in CONFIGS for image in pickle.loads((folder / name / "found.pkl").read_bytes())],
    )


@pytest.mark.compiled_mmcv
def test_mmdet_scripts(uncompiled: Path, tiny_coco: Path, tmp_path: Path):
    env = environment(tiny_coco, uncompiled)
    text = python(["-c", INSTALL], env)
    assert "without its compiled extension" in text and f"wrote {uncompiled / 'mmcv' / '_ext.py'}" in text
    text, losses, found = run(tmp_path / "ours", tiny_coco, uncompiled)
    assert f"extension: {uncompiled / 'mmcv' / '_ext.py'}" in text
    assert "coco/bbox_mAP" in text and "coco/segm_mAP" in text
    text, wanted_losses, wanted = run(tmp_path / "compiled", tiny_coco)
    assert "_ext.py" not in text
    assert len(losses) == 2 * len(CONFIGS) and "loss_rpn_cls" in losses[-1]
    for got, expected in zip(losses, wanted_losses, strict=True):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for image, other in zip(found, wanted, strict=True):
        ours, theirs = (entry["pred_instances"] for entry in (image, other))
        assert len(ours["scores"]) > 0
        for key in ("bboxes", "scores", "labels"):
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-4)
