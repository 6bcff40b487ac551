"""The tables of published weights and of networks, for one network each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.timm


def test_loads_of_installed_and_of_missing_code(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bench = script("benchmarks/foundation_loads")
    missing = bench.detectors("a fork", "eva02_base_patch14_224", "no_such_package", "ViT", pretrain_img_size=224)
    monkeypatch.setattr(bench, "SOURCES", (bench.timms("eva02_tiny_patch14_224"), missing))
    monkeypatch.setattr(sys, "argv", ["foundation_loads.py", "--out", str(tmp_path / "loads")])
    bench.main()
    installed, other = json.loads((tmp_path / "loads.json").read_text())["loads"]
    assert installed["strict"] and installed["difference"] < 1e-10
    assert "no_such_package" in other["missing"]
    page = (tmp_path / "loads.md").read_text()
    assert "| timm | `eva02_tiny_patch14_224` |" in page and "| yes | yes | 5 x 8 |" in page
    assert "| a fork | `eva02_base_patch14_224` | | not measured" in page


def test_memory_of_a_network(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = script("benchmarks/foundation_networks")
    monkeypatch.setattr(bench, "SIDE", 256)
    small = ["--model", "vit_pe_spatial_tiny_patch16_512", "--out", str(tmp_path / "networks")]
    monkeypatch.setattr(sys, "argv", ["foundation_networks.py", *small])
    bench.main()
    (row,) = json.loads((tmp_path / "networks.json").read_text())["networks"]
    kept = row["bytes_per_megapixel"]
    assert row["license"] == "apache-2.0" and 5e6 < row["parameters"] < 7e6
    assert 0 < kept["checkpointed"] < kept["global"] / 4 and kept["global"] < 2 * kept["windows"]
    assert (
        "| `vit_pe_spatial_tiny_patch16_512` | apache-2.0 | 6 | 0.5, 0.5, 0.5 |"
        in (tmp_path / "networks.md").read_text()
    )
