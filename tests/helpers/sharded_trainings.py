"""Run in each of two connected processes by ``tests/adapters/test_sharded_training.py``: both toolboxes, sharded."""

from __future__ import annotations

import logging
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {toolbox: f"configs/{toolbox}/demo_mask_rcnn_vitdet.py" for toolbox in ("mmdet", "detectron2")}
TINY = [
    "embed_dim=32",
    "depth=2",
    "num_heads=2",
    "img_size=160",
    "global_block_indices=[1]",
    "gradient_checkpointing=True",
]
# overrides of the demo's configs: a tiny ViT on small images
OPTIONS = {
    "mmdet": ["model.data_preprocessor.pad_size_divisor=160", *(f"model.backbone.backbone.{text}" for text in TINY)],
    "detectron2": ["model.backbone.square_pad=160", *(f"model.backbone.bottom_up.{text}" for text in TINY)],
}
ITERATIONS, SAVED = 3, 2


def enter(rank: int, data: str) -> None:
    """Let the toolboxes see the processes as their launchers would start them."""
    from detectron2.utils import comm

    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2", "FPN_PLUGINS_COCO": data}
    os.chdir(ROOT)
    comm.create_local_process_group(2)
    logging.disable(logging.INFO)


def losses_of_one(rank: int, toolbox: str) -> dict[str, Any]:
    """Losses of three iterations: those of each process, and of one that runs the parts of the batch in turn."""
    from fpn_plugins.adapters.hosts import build_detector, host_of
    from fpn_plugins.inference import AnnotatedImage
    from fpn_plugins.sharding import shard

    def step(model: Any, optimizer: Any, iteration: int, parts: list[int]) -> list[dict[str, float]]:
        optimizer.zero_grad()
        found = []
        for part in parts:
            torch.manual_seed(10 * iteration + part)
            corners = torch.rand(3, 2) * 60
            boxes = torch.cat([corners, corners + 20 + 60 * torch.rand(3, 2)], 1)
            pixels = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
            image = AnnotatedImage(pixels, boxes, torch.randint(0, 4, (3,)), np.ones((3, 128, 160), dtype=bool))
            total, named = host_of(CONFIGS[toolbox]).losses(model, [image])
            (total / len(parts)).backward()
            found.append(named)
        optimizer.step()
        return found

    models = []
    for seed in (0, rank):
        torch.manual_seed(seed)
        models.append(build_detector(CONFIGS[toolbox], OPTIONS[toolbox]).train())
    shard(models[1])
    optimizers = [torch.optim.SGD(model.parameters(), 0.02, momentum=0.9) for model in models]
    expected = [step(models[0], optimizers[0], iteration, [0, 1])[rank] for iteration in range(ITERATIONS)]
    own = [step(models[1], optimizers[1], iteration, [rank])[0] for iteration in range(ITERATIONS)]
    return {"own": own, "expected": expected}


def train_in_mmdet(folder: Path, resume: bool = False, **changes: Any) -> None:
    """Train by mmengine's runner, with a checkpoint after every iteration."""
    from mmdet.utils import register_all_modules
    from mmengine.config import Config, DictAction
    from mmengine.registry import RUNNERS

    register_all_modules()
    cfg = Config.fromfile(CONFIGS["mmdet"])
    given = [option.partition("=")[::2] for option in OPTIONS["mmdet"]]
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in given})
    cfg.merge_from_dict(dict(Config.fromfile("configs/mmdet/_base_/fsdp.py")))
    cfg.merge_from_dict({"train_cfg.max_iters": ITERATIONS, "train_cfg.val_interval": 10, **changes})
    cfg.default_hooks.checkpoint.update(interval=1, published_keys=None)
    cfg.param_scheduler = cfg.param_scheduler[:1]
    cfg.optim_wrapper.update(clip_grad={"max_norm": 1.0})
    cfg.optim_wrapper.paramwise_cfg.num_layers = 2
    for name in ("train", "val"):
        loader = cfg[f"{name}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False, batch_size=1)
        loader.dataset.pipeline[1 if name == "val" else 2].scale = (160, 120)
    cfg.custom_hooks = [{"type": f"fpn_plugins.{name}"} for name in ("SafeCheckpointHook", "ExactResumeHook")]
    cfg.update(work_dir=str(folder), launcher="pytorch", resume=resume, randomness={"seed": 0})
    cfg.update(experiment_name=folder.name, log_level="WARNING", visualizer={"type": "mmdet.DetLocalVisualizer"})
    RUNNERS.build(cfg).train()


def train_in_detectron2(folder: Path, resume: bool = False, **changes: Any) -> None:
    """Train as ``tools/train_net.py`` does, with a checkpoint after every iteration."""
    from fpn_plugins.adapters.detectron2.engine import make_job

    settings = {
        "train.fsdp.enabled": True,
        "train.max_iter": ITERATIONS,
        "train.eval_period": SAVED,
        "train.checkpointer.period": 1,
        "train.output_dir": folder,
        "train.seed": 0,
        "lr_multiplier.warmup_length": 0.5,
        "dataloader.train.num_workers": 0,
        "dataloader.test.num_workers": 0,
        "dataloader.train.mapper.augmentations.0.short_edge_length": 120,
        "dataloader.test.mapper.augmentations.0.short_edge_length": 120,
        **changes,
    }
    overrides = [*OPTIONS["detectron2"], *(f"{key}={value}" for key, value in settings.items())]
    args = Namespace(config_file=CONFIGS["detectron2"], opts=overrides, resume=resume, eval_only=False)
    make_job(args, exact=True).run()


TRAIN = {"mmdet": train_in_mmdet, "detectron2": train_in_detectron2}
# without sharding: mmengine's ordinary runner, and PyTorch's DistributedDataParallel in both
WHOLE: dict[str, dict[str, Any]] = {
    "mmdet": {
        "runner_type": "Runner",
        "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False},
    },
    "detectron2": {"train.fsdp.enabled": False},
}
FILES = {"mmdet": "iter_{}.pth", "detectron2": "model_{:07d}.pth"}


def checkpoint(toolbox: str, folder: Path, iteration: int) -> Path:
    """Path of the checkpoint after an iteration, counted from 1."""
    return folder / FILES[toolbox].format(iteration - (toolbox == "detectron2"))


def trainings(rank: int, toolbox: str, folder: Path) -> None:
    """Train sharded, without sharding, and sharded again from the checkpoint of each of these."""
    for name, changes in (("sharded", {}), ("whole", WHOLE[toolbox])):
        TRAIN[toolbox](folder / name, **changes)
    for name in ("sharded", "whole"):
        again = folder / f"{name}_resumed"
        if rank == 0:
            again.mkdir()
            file = shutil.copy(checkpoint(toolbox, folder / name, SAVED), again)
            (again / "last_checkpoint").write_text(file if toolbox == "mmdet" else Path(file).name)
        dist.barrier()
        TRAIN[toolbox](again, resume=True)


def everything(rank: int, data: str, folder: str) -> dict[str, Any]:
    """Run all of it; return the losses, and leave the checkpoints in ``folder/TOOLBOX/TRAINING``."""
    enter(rank, data)
    losses = {toolbox: losses_of_one(rank, toolbox) for toolbox in CONFIGS}
    for toolbox in CONFIGS:
        trainings(rank, toolbox, Path(folder, toolbox))
    return losses
