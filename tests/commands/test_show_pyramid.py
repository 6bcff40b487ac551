"""Levels of detectors whose backbones and necks are the toolboxes' own are drawn, and objects get a level."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pair import write_pair

from fpn_plugins.commands.pyramid import main


@pytest.mark.parametrize(
    "toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]
)
def test_levels_of_a_toolboxs_own_network_are_drawn(toolbox: str, tmp_path: Path) -> None:
    config, checkpoint = write_pair(tmp_path, toolbox)
    picture = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 150, 3), dtype=np.uint8)).save(picture)
    main([config, checkpoint, str(picture), "--out", str(tmp_path / "levels.png"), "--score", "0"])
    objects = json.loads((tmp_path / "levels.json").read_text())["objects"]
    assert objects and {entry["level"] for entry in objects} <= {f"p{level}" for level in range(3, 8)}
    assert Image.open(tmp_path / "levels.png").width > 300
