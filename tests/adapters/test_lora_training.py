"""LoRA through both toolboxes' own training commands: train, continue, load, merge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fpn_plugins.adapters.hosts import host_of
from fpn_plugins.backbones import merge_lora
from fpn_plugins.weights import read_checkpoint

pytestmark = [pytest.mark.peft, pytest.mark.timm]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STEM = "demo_mask_rcnn_rotary_vit"
SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "global_block_indices": [1]}
MMDET = """
_base_ = {base!r}
model = dict(backbone=dict(backbone=dict({vit})))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
param_scheduler = []
custom_hooks = []
train_cfg = dict(val_interval=100)
default_hooks = dict(checkpoint=dict(interval=1))
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
"""
DETECTRON2 = """
from functools import partial
from detectron2.config import LazyConfig
from fpn_plugins.training import vit_lr_factor

cfg = LazyConfig.load({base!r})
dataloader, lr_multiplier, model, optimizer, train = (
    cfg[name] for name in ("dataloader", "lr_multiplier", "model", "optimizer", "train")
)
model.backbone.bottom_up.update(dict({vit}))
optimizer.params.lr_factor_func = partial(vit_lr_factor, decay=0.9, depth=2)
lr_multiplier.warmup_length = 0.0
train.eval_period, train.checkpointer.period, dataloader.train.num_workers = 100, 1, 0
"""
HOSTS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]


def write_config(host: str, path: Path, **lora: Any) -> Path:
    """Write the config of a tiny detector with or without ``lora``."""
    vit = ", ".join(f"{name}={value!r}" for name, value in {**SMALL, **lora}.items())
    template = MMDET if host == "mmdet" else DETECTRON2
    path.write_text(template.format(base=str(CONFIGS / host / f"{STEM}.py"), vit=vit))
    return path


def run(host: str, config: Path, folder: Path, iterations: int, *options: str) -> dict[str, Tensor]:
    """Run the training command in this process; return the last checkpoint's weights."""
    if host == "mmdet":
        arguments = [str(config), "--work-dir", str(folder), *options]
        arguments += [
            "--cfg-options",
            f"train_cfg.max_iters={iterations}",
            f"experiment_name={folder.name}{iterations}",
        ]
        command, file = "train", f"iter_{iterations}.pth"
    else:
        arguments = [
            "--config-file",
            str(config),
            *options,
            f"train.output_dir={folder}",
            f"train.max_iter={iterations}",
        ]
        command, file = "train_d2", "model_final.pth"
    import_module(f"fpn_plugins.commands.{command}").main(arguments)
    return read_checkpoint(folder / file)


def maps(host: Any, config: Path, file: Path, merged: bool = False) -> tuple[Any, list[Tensor]]:
    """Load a detector strictly; return it and the pyramid of an image."""
    detector = host.load(str(config), str(file))
    if merged:
        merge_lora(detector)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = detector.backbone(image)
    return detector, list(found.values() if isinstance(found, dict) else found)


def assert_close(got: Sequence[Tensor], expected: Sequence[Tensor], atol: float = 1e-5) -> None:
    assert all(torch.allclose(a, b, atol=atol) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("name", HOSTS)
def test_adapters_neck_and_heads_train_continue_and_merge(
    name: str, tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    monkeypatch.setattr(sys, "argv", sys.argv)  # replaced by the command
    config = write_config(name, tmp_path / "lora.py", lora={"rank": 2})
    host, folder = host_of(str(config)), tmp_path / "training"
    first = run(name, config, folder, 1)
    second = run(name, config, folder, 2, "--resume")
    assert first.keys() == second.keys()
    backbone = [key for key in first if ".blocks." in key or ".patch_embed." in key]
    changed = {key for key in first if not torch.equal(first[key], second[key])}
    adapters = {key for key in backbone if ".lora_" in key}
    assert len(adapters) == 8 and changed & set(backbone) == adapters
    assert any(".neck." in key for key in changed) and any(key.startswith(("roi_head", "roi_heads")) for key in changed)

    file = folder / ("iter_2.pth" if name == "mmdet" else "model_final.pth")
    _, expected = maps(host, config, file)
    merged, got = maps(host, config, file, merged=True)
    assert_close(got, expected)
    torch.save(merged.state_dict(), tmp_path / "merged.pth")
    plain = write_config(name, tmp_path / "plain.py")
    assert_close(maps(host, plain, tmp_path / "merged.pth")[1], expected)
