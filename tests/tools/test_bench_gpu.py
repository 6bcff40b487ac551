"""The GPU measurements, as a dry run on the CPU with small shapes."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fpn_plugins import BACKBONES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tools" / "benchmarks"
MODES = {"inference", "training"}


Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(run_tool: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs sections on the CPU."""

    def dry_run(out: Path, *arguments: str) -> Any:
        precisions = [] if "--precision" in arguments else ["--precision", "bfloat16"]
        options = ["--device", "cpu", "--tiny", "--budget", 0.001, *precisions, "--out", out]
        return run_tool("benchmarks/gpu", *arguments, *options)

    return dry_run


@pytest.fixture
def rows_of(run: Callable[..., Any]) -> Rows:
    """A function that runs a section without errors, and returns its rows, each of which was printed."""

    def rows(out: Path, section: str, *arguments: str) -> list[dict[str, Any]]:
        done = run(out, section, *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        report = json.loads((out / f"{section}.json").read_text())
        assert report["command"].startswith(f"tools/benchmarks/gpu.py {section}") and report["versions"]["torch"]
        assert sum(line.startswith("[") for line in done.stdout.splitlines()) == len(report["rows"])
        return report["rows"]

    return rows


def test_every_backbone_has_example_arguments():
    tree = ast.parse((FOLDER / "gpu_parity.py").read_text())
    found = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert {key.value for key in found[0].keys} == set(BACKBONES)


@pytest.mark.timm
def test_parity(rows_of: Rows, tmp_path: Path):
    names = ["BFP", "FPN", "SimpleFeaturePyramid", "Swin", "TimmBackbone"]
    rows = rows_of(tmp_path, "parity", "--module", *names)
    ways = ["float32", "channels_last", "bfloat16", "float16"]
    assert [(row["module"], row["way"]) for row in rows] == [(name, way) for name in names for way in ways]
    assert all(row["maps"] == row["gradients"] == 0 for row in rows if row["way"] == "float32")
    assert all(row["maps"] > 0 for row in rows if row["way"] == "bfloat16")


@pytest.mark.detectron2
def test_attention(rows_of: Rows, tmp_path: Path):
    rows = rows_of(tmp_path, "attention")
    forms = {"attend", "plain", "masked", "widened", "widened_narrow", "blocked"}
    for case in ("global", "pooled"):
        assert {row["who"] for row in rows if row["case"] == case and "difference" in row} == forms
        times = {(row["who"], row["mode"]) for row in rows if row["case"] == case and row.get("ms", 0) > 0}
        assert times == {(who, mode) for who in (*forms, "no bias") for mode in MODES}
    layers = {(row["who"], row["mode"]) for row in rows if row["case"] == "global layer" and row["ms"] > 0}
    assert layers == {(who, mode) for who in ("ours", "ours compiled", "detectron2") for mode in MODES}


def test_windows(rows_of: Rows, tmp_path: Path):
    rows = rows_of(tmp_path, "windows")
    for shifted in (False, True):
        differences = [row["difference"] for row in rows if row["shifted"] is shifted and "difference" in row]
        assert len(differences) == 3 and 0 < max(differences) < 0.02


@pytest.mark.detectron2
def test_backbones(rows_of: Rows, tmp_path: Path):
    rows = rows_of(tmp_path, "backbones", "--model", "vit_b")
    assert [row["difference"] < 1e-5 for row in rows if "difference" in row] == [True]
    times = {(row["who"], row["mode"]) for row in rows if row.get("ms", 0) > 0}
    assert times == {(who, mode) for who in ("ours", "ours compiled", "detectron2") for mode in MODES}


@pytest.mark.mmdet
@pytest.mark.effdet
def test_necks(rows_of: Rows, tmp_path: Path):
    rows = rows_of(tmp_path, "necks", "--neck", "bifpn", "pafpn")
    assert [row["difference"] < 1e-5 for row in rows if "difference" in row] == [True] * 2
    for neck, peer in (("bifpn", "effdet"), ("pafpn", "mmdet")):
        for layout in (None, "channels_last"):
            own = [row for row in rows if row["model"] == neck and row.get("layout") == layout and row.get("ms", 0) > 0]
            assert {(row["who"], row["mode"]) for row in own} == {
                (who, mode) for who in ("ours", "ours compiled", peer) for mode in MODES
            }


@pytest.mark.timm
@pytest.mark.parametrize(
    "toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]
)
def test_detectors(rows_of: Rows, toolbox: str, tmp_path: Path):
    arguments = ["--toolbox", toolbox, "--detector", "retinanet", "--precision", "float32"]
    rows = rows_of(tmp_path, "detectors", *arguments)
    shares = {row["who"]: row["share"] for row in rows if "share" in row}
    assert set(shares) == {"ours", "ours, channels_last"} and min(shares.values()) > 0.95
    times = {(row["who"], row["mode"]) for row in rows if row.get("ms", 0) > 0}
    names = {"stock", *shares, "ours, channels_last, backbone compiled"}
    assert times == {(who, mode) for who in names for mode in MODES}


def test_mistakes_are_one_line(run: Callable[..., Any], tmp_path: Path):
    done = run(tmp_path, "windoes")
    assert done.returncode == 1 and done.stderr.startswith("error: unknown sections ['windoes']; choose some of ")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
