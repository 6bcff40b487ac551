"""The sections of the GPU kit, as dry runs on the CPU with small shapes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fpn_plugins import BACKBONES, NECKS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tools" / "benchmarks"
MODES = {"inference", "training"}
TINY = ["--device", "cpu", "--tiny", "--budget", "0.001"]
FORMS = {"ours", "ours compiled", "ours, CUDA graph", "ours compiled, CUDA graph"}
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows_of(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, Any]]]:
    """A function that runs a section without errors, and returns its rows, each of which was printed."""

    def run(section: str, *arguments: str) -> list[dict[str, Any]]:
        kit = script("benchmarks/gpu_section")
        file = tmp_path / f"{section}.json"
        precisions = [] if "--precision" in arguments else ["--precision", "bfloat16"]
        capsys.readouterr()
        errors = kit.run(kit.parse_args([section, "--out", str(file), *TINY, *precisions, *arguments]))
        printed = capsys.readouterr().out
        report = json.loads(file.read_text())
        assert errors == 0, [row for row in report["rows"] if "error" in row]
        assert report["versions"]["torch"] and report["device"]
        assert sum(line.startswith("[") for line in printed.splitlines()) == len(report["rows"])
        return report["rows"]

    return run


def timed(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Forms and modes that were timed."""
    return {(row["who"], row["mode"]) for row in rows if row.get("ms", 0) > 0}


def test_every_backbone_has_example_arguments():
    tree = ast.parse((FOLDER / "gpu_parity.py").read_text())
    found = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert {key.value for key in found[0].keys} == set(BACKBONES)


@pytest.mark.parametrize("name", sorted(NECKS))
def test_parity_builds_every_neck(name: str, script: Callable[[str], ModuleType]) -> None:
    module, inputs = script("benchmarks/gpu_parity").build(name)
    assert isinstance(module, NECKS[name]) and len(inputs) >= 1


@pytest.mark.timm
def test_parity(rows_of: Run) -> None:
    names = ["BFP", "FPN", "SimpleFeaturePyramid", "Swin", "TimmBackbone"]
    rows = rows_of("parity", "--full", "--module", *names)
    ways = ["float32", "channels_last", "bfloat16", "float16"]
    assert [(row["module"], row["way"]) for row in rows] == [(name, way) for name in names for way in ways]
    assert all(row["maps"] == row["gradients"] == 0 for row in rows if row["way"] == "float32")
    assert all(row["maps"] > 0 for row in rows if row["way"] == "bfloat16")


@pytest.mark.detectron2
def test_attention(rows_of: Run) -> None:
    rows = rows_of("attention", "--full")
    forms = {"attend", "plain", "masked", "widened", "widened_narrow", "blocked"}
    for case in ("global", "pooled"):
        assert {row["who"] for row in rows if row["case"] == case and "difference" in row} == forms
        own = [row for row in rows if row["case"] == case]
        assert timed(own) == {(who, mode) for who in (*forms, "no bias") for mode in MODES}
    layers = timed([row for row in rows if row["case"] == "global layer"])
    assert layers == {(who, mode) for who in ("ours", "ours compiled", "detectron2") for mode in MODES}


def test_windows(rows_of: Run) -> None:
    rows = rows_of("windows")
    for shifted in (False, True):
        differences = [row["difference"] for row in rows if row["shifted"] is shifted and "difference" in row]
        assert len(differences) == 3 and 0 < max(differences) < 0.02


@pytest.mark.detectron2
def test_backbones(rows_of: Run) -> None:
    rows = rows_of("backbones", "--model", "vit_b", "--full")
    assert [row["difference"] < 1e-5 for row in rows if "difference" in row] == [True]
    assert timed(rows) == {(who, mode) for who in (*FORMS, "detectron2") for mode in MODES}
    assert all(row["roofline"] > 0 for row in rows if "ms" in row)


@pytest.mark.mmdet
def test_the_default_run_compiles_inference_alone(rows_of: Run) -> None:
    found = timed(rows_of("necks", "--neck", "fpn"))
    assert {who for who, mode in found if mode == "inference"} >= {*FORMS, "mmdet", "convolutions alone"}
    assert {who for who, mode in found if mode == "training"} & FORMS == {"ours", "ours, CUDA graph"}


@pytest.mark.mmdet
@pytest.mark.effdet
def test_necks(rows_of: Run) -> None:
    rows = rows_of("necks", "--neck", "bifpn", "pafpn", "--full", "--no-compile")
    assert [row["difference"] < 1e-5 for row in rows if "difference" in row] == [True] * 2
    for neck, peer in (("bifpn", "effdet"), ("pafpn", "mmdet")):
        for layout in (None, "channels_last"):
            own = [row for row in rows if row["model"] == neck and row.get("layout") == layout]
            names = ("ours", "ours, CUDA graph", "convolutions alone", peer)
            assert timed(own) == {(who, mode) for who in names for mode in MODES}


@pytest.mark.timm
def test_rotary(rows_of: Run) -> None:
    rows = rows_of("rotary", "--precision", "float32")
    assert [row["difference"] < 1e-4 for row in rows if "difference" in row] == [True]
    assert timed(rows) >= {(who, mode) for who in ("ours", "ours, windows", "timm") for mode in MODES}


@pytest.mark.detectron2
def test_vitdet(rows_of: Run) -> None:
    rows = rows_of("vitdet", "--precision", "float32")
    assert [row["share"] > 0.95 for row in rows if "share" in row] == [True]
    assert timed(rows) >= {(who, mode) for who in ("stock", "ours") for mode in MODES}


@pytest.mark.timm
@pytest.mark.parametrize(
    "toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]
)
def test_detectors(toolbox: str, rows_of: Run) -> None:
    with_compiled = toolbox == "detectron2"  # the same for both
    arguments = ["--precision", "float32", "--full", *([] if with_compiled else ["--no-compile"])]
    rows = rows_of("detectors", "--toolbox", toolbox, "--detector", "retinanet", *arguments)
    shares = {row["who"]: row["share"] for row in rows if "share" in row}
    assert set(shares) == {"ours", "ours, channels_last"} and min(shares.values()) > 0.95
    compiled, graph = (f"ours, channels_last, backbone {how}" for how in ("compiled", "as CUDA graph"))
    expected = {(who, mode) for who in ("stock", *shares) for mode in MODES} | {(graph, "inference")}
    if with_compiled:
        expected |= {(compiled, mode) for mode in MODES} | {(f"{compiled}, CUDA graph", "inference")}
    assert timed(rows) == expected


ALONE = """
import json, sys
blocked = "cv2 detectron2 effdet matplotlib mmcv mmdet mmengine PIL scipy timm torchvision".split()
sys.modules.update(dict.fromkeys(blocked))
sys.path.insert(0, {folder!r})
import gpu, gpu_section
for section in ("windows", "rotary", "vitdet", "detectors", "parity"):
    arguments = [section, "--out", {out!r} + section, "--module", "FPN", "TimmBackbone", *{tiny!r}]
    assert gpu_section.run(gpu_section.parse_args(arguments)) == 0
"""


def test_it_needs_pytorch_and_this_package_alone(tmp_path: Path) -> None:
    code = ALONE.format(folder=str(FOLDER), out=f"{tmp_path}/", tiny=TINY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {file.name: json.loads(file.read_text())["rows"] for file in tmp_path.iterdir()}
    assert all("skipped" in row for name in ("rotary", "vitdet", "detectors") for row in rows[name])
    assert {row["module"]: "skipped" in row for row in rows["parity"]} == {"FPN": False, "TimmBackbone": True}
    assert len(timed(rows["windows"])) == 8


def test_mmcv_without_its_extension_gets_our_operators(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpn_plugins.adapters.mmcv import installation

    kit = script("benchmarks/gpu_section")
    lite = installation.Mmcv(Path("mmcv"), True, True, [], [], None)
    monkeypatch.setattr(kit.importlib.util, "find_spec", lambda name: name)
    before = sys.modules.pop("mmcv._ext", None)
    try:
        for found, ours in ((lite._replace(compiled=[Path("_ext.so")]), False), (lite, True)):
            monkeypatch.setattr(installation, "find_mmcv", lambda found=found: found)
            kit.provide_operators()
            assert ("mmcv._ext" in sys.modules) is ours
    finally:
        sys.modules.pop("mmcv._ext", None)
        if before is not None:
            sys.modules["mmcv._ext"] = before


def test_a_graph_reads_what_it_is_given_and_overwrites_what_it_returned(script: Callable[[str], ModuleType]) -> None:
    kit = script("benchmarks/gpu_graphs")
    backbone = torch.nn.Conv2d(3, 2, 1)
    graphed = kit.Graphed(backbone, on_gpu=False).eval()
    first, second = torch.randn(2, 1, 3, 4, 5).unbind()
    with torch.no_grad():
        maps = graphed(first)
        assert torch.equal(maps, backbone(first))
        assert graphed(second) is maps and torch.equal(maps, backbone(second))
        assert graphed(first[..., :2]).shape == (1, 2, 4, 2) and len(graphed.recorded) == 2
        with torch.autocast("cpu", torch.bfloat16):
            assert graphed(first).dtype == torch.bfloat16
    assert graphed(first).requires_grad and graphed.in_channels == 3
