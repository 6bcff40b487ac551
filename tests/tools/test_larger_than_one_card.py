"""The arithmetic of the page on large ViTs: what is counted is what a real training step needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fpn_plugins import Pyramid
from fpn_plugins.analysis import build_pyramid, pyramid_cost

VIT = {"type": "ViT", "embed_dim": 128, "num_heads": 4, "img_size": 512, "use_rel_pos": False}
VIT |= {"global_block_indices": (1, 3)}
SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 2, "global_block_indices": (1, 3)}
pytestmark = [pytest.mark.timm, pytest.mark.detectron2]


def test_a_measured_step_needs_what_is_counted(script: Callable[[str], ModuleType]) -> None:
    """Peaks of the allocator on a CPU, which are at most 5 % above the count."""
    timing = script("benchmarks/timing")
    neck, size = {"type": "SimpleFeaturePyramid", "out_channels": 16}, (512, 512)
    counted, measured = [], []
    for depth, checkpointed in ((4, False), (12, False), (12, True)):
        backbone = {**VIT, "depth": depth, "gradient_checkpointing": checkpointed}
        counted.append(pyramid_cost(backbone, neck, size).total().activation_bytes)
        measured.append(timing.peak_extra_bytes(step_of(build_pyramid(backbone, neck), size)))
    found = {"measured MiB": [n / 2**20 for n in measured], "counted MiB": [n / 2**20 for n in counted]}
    assert all(kept < peak < 1.05 * kept for kept, peak in zip(counted, measured, strict=True)), found
    assert measured[1] - measured[0] == pytest.approx(counted[1] - counted[0], rel=0.01), found


def step_of(model: Pyramid, size: tuple[int, int]) -> Callable[[], None]:
    """Forward and backward, with gradients that exist already."""
    images = torch.zeros(1, 3, *size)

    def step() -> None:
        torch.stack([m.mean() for m in model.train()(images)]).sum().backward()

    step()
    return step


def test_the_page_is_counted(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = script("benchmarks/larger_than_one_card")
    monkeypatch.setattr(tool, "MODELS", {"small": SMALL})
    arguments = ["--model", "small", "--images", "64", "128", "--out", str(tmp_path / "page")]
    monkeypatch.setattr(sys, "argv", ["larger_than_one_card.py", *arguments])
    tool.main()
    report = json.loads((tmp_path / "page.json").read_text())
    (row,) = report["models"]
    own, found = row["weights"], row["activations"]
    assert 3 * own["largest_unit"] < own["parameters"] - own["outside_units"] <= 4 * own["largest_unit"]
    for side in ("64", "128"):
        assert found[side]["checkpointed"] < found[side]["kept"] and found[side]["recomputed"] < found[side]["kept"]
        assert found[side]["kept"] > 2 * own["parameters"]  # among it, copies of the weights in half precision
    assert found["128"]["kept"] > found["64"]["kept"]
    page = (tmp_path / "page.md").read_text()
    assert "| small | " in page and "### 128 x 128" in page and "| network | 1 card | 2 cards |" in page


def test_cards_share_what_is_divided(script: Callable[[str], ModuleType]) -> None:
    tool = script("benchmarks/larger_than_one_card")
    activations = {"kept": 500, "checkpointed": 40, "recomputed": 60}
    own = {"parameters": 900, "largest_unit": 50, "outside_units": 300}
    row: dict[str, Any] = {"weights": own, "activations": {"64": activations}}
    heads = {"64": {"parameters": 100, "kept": 7}}
    gathered = 8 * (300 + 100 + 2 * 50)
    assert tool.bytes_per_card(row, heads, 64, 1, True) == 16 * 1000 + 40 + 2 * 900 + 7
    assert tool.bytes_per_card(row, heads, 64, 4, False) == 4 * 1000 + gathered + 500 + 7
