"""The toolboxes' own, unmodified scripts and ours run our configs, each for two iterations and an evaluation."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fpn_plugins.commands.train import add_cfg_options

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(sysconfig.get_paths()["purelib"])
MMDET_SHORT = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "param_scheduler.0.end=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
    "model.backbone.backbone.checkpoint=None",
]
LAZY_SHORT = [
    "train.max_iter=2",
    "train.eval_period=2",
    "train.checkpointer.period=2",
    "train.log_period=1",
    "lr_multiplier.warmup_length=0.5",
    "train.seed=1",
    # after two iterations scores may all be low, and without a detection masks are not evaluated
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.backbone.bottom_up.checkpoint=null",
]


def python(arguments: list[str], tiny_coco: Path, module: bool = False, **environment: str) -> str:
    """Run a script from the repository's root and return what it printed; fails with its last lines."""
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *(["-m"] if module else []), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout[-4000:]
    if str(arguments[0]).startswith("tools/"):  # ours: nothing foreign comes before the first line
        before = done.stdout.partition("checking the data")[0]
        assert not [word for word in ("OneDL", "faster_coco_eval", "Warning") if word in before], before
    return done.stdout


def mmdet_tool(name: str) -> Path:
    """mmdet's own script of that name."""
    import mmdet

    return Path(mmdet.__file__).parent / ".mim" / "tools" / name


@pytest.mark.mmdet
@pytest.mark.parametrize("whose", ["mmdet's", "ours"])
def test_mmdet_trains_and_tests(whose: str, tiny_coco: Path, tmp_path: Path) -> None:
    folder = mmdet_tool("") if whose == "mmdet's" else Path("tools")
    config = "configs/mmdet/demo_mask_rcnn.py"
    # after two iterations nothing is certain, and without a prediction there is no AP to print
    options = ["--work-dir", tmp_path, "--cfg-options", *MMDET_SHORT, "model.test_cfg.rcnn.score_thr=0.0"]
    text = python([folder / "train.py", config, *options], tiny_coco)
    assert "Iter(train) [2/2]" in text.replace("[ 2/2]", "[2/2]") and "coco/segm_mAP" in text
    # the config that the training wrote needs no variable
    command = [folder / "test.py", tmp_path / "demo_mask_rcnn.py", tmp_path / "iter_2.pth", *options]
    assert "coco/bbox_mAP" in python(command, tiny_coco, FPN_PLUGINS_COCO="")


@pytest.mark.mmdet
@pytest.mark.parametrize("given", [["c.py", "--cfg-options", "a=1"], ["--cfg-options", "a=1", "--", "c.py"]])
def test_our_options_join_those_of_the_command_line(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    add_cfg_options(["b.type=fpn_plugins.X", "c=2"])
    parse = runpy.run_path(str(mmdet_tool("train.py")), run_name="mmdet_script")["parse_args"]
    args = parse()
    assert args.config == "c.py" and args.cfg_options == {"a": 1, "b.type": "fpn_plugins.X", "c": 2}


@pytest.mark.detectron2
@pytest.mark.parametrize("script", [SITE / "tools/lazyconfig_train_net.py", "tools/train_net.py"], ids=str)
def test_detectron2_lazy_config(script: Path, tiny_coco: Path, tmp_path: Path) -> None:
    config = ["--config-file", "configs/detectron2/demo_mask_rcnn.py"]
    options = [*LAZY_SHORT, f"train.output_dir={tmp_path}"]
    text = python([script, *config, *options], tiny_coco)
    assert "copypaste: Task: segm" in text
    assert isinstance(json.loads((tmp_path / "coco_instances_results.json").read_text()), list)
    resumed = [*options, f"train.init_checkpoint={tmp_path / 'model_final.pth'}"]
    assert "copypaste: Task: bbox" in python([script, *config, "--eval-only", *resumed], tiny_coco)


@pytest.mark.detectron2
@pytest.mark.parametrize("script", [SITE / "tools/train_net.py", "tools/train_net.py"], ids=str)
def test_detectron2_yaml(script: Path, tiny_coco: Path, tmp_path: Path) -> None:
    """Detectron2's own script knows nothing of us but the environment variable."""
    text = (ROOT / "configs/detectron2/demo_retinanet.yaml").read_text()
    config = tmp_path / "demo.yaml"
    config.write_text("\n".join(line for line in text.splitlines() if "checkpoint:" not in line))
    options = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", tmp_path]
    environment = {"DETECTRON2_ENV_MODULE": "fpn_plugins.adapters.detectron2"} if "site-packages" in str(script) else {}
    out = python([script, "--config-file", config, *options], tiny_coco, **environment)
    assert "copypaste: Task: bbox" in out and (tmp_path / "model_final.pth").is_file()


@pytest.mark.detectron2
def test_detectron2_stock_yaml(tiny_coco: Path, tmp_path: Path) -> None:
    """Detectron2's unmodified Mask R-CNN trains on the synthetic set, whose masks its own mapper reads as polygons."""
    from detectron2 import model_zoo

    config = model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    options = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", tmp_path, "DATALOADER.NUM_WORKERS", "0"]
    options += ["DATASETS.TRAIN", "('coco_folder_train',)", "DATASETS.TEST", "('coco_folder_val',)"]
    options += ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    options += ["MODEL.ROI_HEADS.NUM_CLASSES", "4"]
    options += ["INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128", "SOLVER.MAX_ITER", "2"]
    options += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "1e-5"]
    text = python(["tools/train_net.py", "--config-file", config, *options], tiny_coco)
    assert "Total training time" in text and (tmp_path / "model_final.pth").is_file()


@pytest.mark.detectron2
def test_a_model_with_too_few_classes_is_told_so(tiny_coco: Path, tmp_path: Path) -> None:
    arguments = ["tools/train_net.py", "--config-file", "configs/detectron2/demo_retinanet.yaml"]
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco)}
    command = [sys.executable, *arguments, "MODEL.RETINANET.NUM_CLASSES", "3", "OUTPUT_DIR", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "has 4 classes (disc, box, triangle, star), but {'MODEL.RETINANET.NUM_CLASSES': 3} differ" in done.stderr
    assert "(star) have no class" in done.stderr
