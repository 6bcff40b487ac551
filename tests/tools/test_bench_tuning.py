"""The comparison of a frozen ViT, LoRA and full training, at a size too small to say anything about speed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.timm
@pytest.mark.peft
def test_frozen_lora_and_full(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = script("benchmarks/tuning")
    small = ["--model", "vit_small_patch16_dinov3_qkvb", "--images", "64", "--repeats", "1"]
    monkeypatch.setattr(bench, "DEPTH", 2)
    monkeypatch.setattr(sys, "argv", ["tuning.py", *small, "--out", str(tmp_path / "tuning")])
    bench.main()
    frozen, cold, warm, lora, full = json.loads((tmp_path / "tuning.json").read_text())["rows"]
    assert frozen["trained"] == cold["trained"] == warm["trained"] == 0
    assert warm["disk_bytes"] > 4 * 4 * 384 * 4
    assert frozen["trained"] < lora["trained"] < full["trained"] / 20
    assert frozen["state_bytes"] < lora["state_bytes"] < full["state_bytes"]
    assert "| LoRA |" in (tmp_path / "tuning.md").read_text()
