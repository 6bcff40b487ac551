"""The benchmark of a fourth channel changes settings that its configs have, in both toolboxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]


@pytest.fixture
def tool(script: Callable[[str], ModuleType], tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    return script("benchmarks/channels")


def test_the_colors_alone_are_three_bands_in_detectron2(tool: ModuleType, tmp_path: Path):
    from detectron2.config import LazyConfig

    for colors, channels in ((True, 3), (False, 4)):
        command = tool.detectron2_command(colors, 100, tmp_path)
        place = command.index("--config-file") + 1
        cfg: Any = LazyConfig.load(str(ROOT / command[place]))
        cfg = LazyConfig.apply_overrides(cfg, command[place + 1 :])
        assert (
            cfg.model.backbone.bottom_up.in_chans == len(cfg.model.pixel_mean) == len(cfg.model.pixel_std) == channels
        )
        for mapper in (cfg.dataloader.train.mapper, cfg.dataloader.test.mapper):
            assert mapper.in_chans == channels and mapper.get("bands") == ([0, 1, 2] if colors else None)
        assert cfg.train.max_iter == cfg.train.eval_period == 100


def test_the_colors_alone_are_three_bands_in_mmdetection(tool: ModuleType, tmp_path: Path):
    from mmengine.config import Config, DictAction

    for colors, channels in ((True, 3), (False, 4)):
        command = tool.mmdet_command(colors, 100, tmp_path)
        cfg = Config.fromfile(ROOT / command[1])
        pairs = [pair.partition("=") for pair in command[command.index("--cfg-options") + 1 :]]
        cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, _, value in pairs})
        assert cfg.model.backbone.backbone.in_chans == len(cfg.model.data_preprocessor.mean) == channels
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            reader = loader.dataset.pipeline[0]
            assert int(reader.in_chans) == channels and reader.get("bands") == ([0, 1, 2] if colors else None)
        assert int(cfg.train_cfg.max_iters) == int(cfg.param_scheduler[1].T_max) == 100
