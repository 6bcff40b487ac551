"""The comparison of necks, at a size too small to say anything about speed."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from fpn_plugins import NECKS

# packages that each kind of neck is compared with
PEERS = {
    "FPN": ["mmdet", "detectron2", "torchvision"],
    "PAFPN": ["mmdet"],
    "BiFPN": ["effdet"],
    "NASFPN": ["mmdet"],
    "CSPPAFPN": ["mmdet"],
    "BFP": ["mmdet"],
}
pytestmark = [getattr(pytest.mark, host) for host in ("mmdet", "detectron2", "torchvision", "effdet")]
OURS = ["ours", "ours, channels_last", "ours, channels_last, copied to NCHW"]
FLOORS = ["convolutions", "convolutions, channels_last"]


def contenders(neck: str) -> list[str]:
    """Everything that is timed for a neck."""
    return [*OURS, *PEERS[neck], *FLOORS]


Run = Callable[..., Any]


@pytest.fixture
def run(run_tool: Run) -> Run:
    """A function that runs a benchmark."""

    def benchmark(tool: str, *arguments: Any) -> None:
        done = run_tool(f"benchmarks/{tool}", *arguments, "--repeats", 1, "--threads", 1)
        assert done.returncode == 0, done.stderr[-3000:]

    return benchmark


@pytest.fixture
def bench(run: Run) -> Run:
    """A function that runs the benchmark of necks, and returns its report."""

    def benchmark(out: Path, *arguments: Any) -> dict[str, Any]:
        run("necks", "--out", out, "--size", 128, 256, *arguments)
        assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        return json.loads(out.with_suffix(".json").read_text())

    return benchmark


# processors without instructions for bf16 emulate it, at a hundredth of the speed
@pytest.mark.parametrize(("necks", "options"), [(list(PEERS), []), (["FPN"], ["--bf16", "--size", 64, 64])])
def test_every_kind_is_timed_beside_its_peers_and_its_convolutions(
    bench: Run, tmp_path: Path, necks: list[str], options: list[Any]
) -> None:
    report = bench(tmp_path / "made" / "necks", "--no-memory", "--neck", *necks, *options)
    assert [(row["neck"], row["mode"]) for row in report["rows"]] == [
        (neck, mode) for neck in necks for mode in ("inference", "training")
    ]
    page = (tmp_path / "made" / "necks.md").read_text()
    for row in report["rows"]:
        assert list(row["seconds"]) == contenders(row["neck"])
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["time_ratios"]["ours"]["ours"] == 1
        assert all(difference < 1e-4 for difference in row["largest_relative_difference"].values())
        assert all(f"| {row['neck']} | {row['mode']} | {who} |" in page for who in row["seconds"])
    assert report["processor"] in page and report["date"] in page
    assert report["bf16"] == bool(options) and report["size"] == (options[-2:] or [128, 256])
    assert set(report["versions"]) == {"torch", "fpn_plugins", *(peer for neck in necks for peer in PEERS[neck])}


def test_every_registered_neck_has_a_case_that_equals_its_peers(script: Callable[[str], ModuleType]) -> None:
    cases, passes = script("benchmarks/neck_cases").CASES, script("benchmarks/neck_passes")
    assert set(cases) >= set(NECKS)
    for kind, case in cases.items():
        size = (512, 512) if kind == "SSDNeck" else (128, 128)
        setting = passes.NeckSetting(size, 1, bf16=False)
        if case.peers and kind not in PEERS:  # those are run as a whole above
            assert all(value < 1e-4 for value in passes.largest_differences(kind, setting).values()), kind
        elif not case.peers:
            assert passes.output_shapes(kind, setting), kind


def test_memory_is_that_of_the_pass(bench: Run, tmp_path: Path) -> None:
    inference, training = bench(tmp_path / "necks", "--neck", "BiFPN")["rows"]
    assert list(inference["peak_bytes"]) == list(training["peak_bytes"]) == [*OURS, "effdet"]
    finest = 4 * 64 * (128 // 8) * (256 // 8)  # a map of P3
    for who, peak in training["peak_bytes"].items():
        assert finest < inference["peak_bytes"][who]["tensors"] < peak["tensors"]
        if sys.platform == "linux":
            assert peak["resident"] > 0


def test_growth_with_the_image(bench: Run, tmp_path: Path) -> None:
    report = bench(tmp_path / "slopes", "--neck", "PAFPN", "--slopes", 1, 0.5, "--no-memory")
    assert report["sizes"] == [[64, 128], [128, 256]]
    page = (tmp_path / "slopes.md").read_text()
    assert [(curve["mode"], curve["who"]) for curve in report["curves"]] == [
        (mode, who) for mode in ("inference", "training") for who in contenders("PAFPN")
    ]
    for curve in report["curves"]:
        assert curve["pixels"] == [64 * 128, 128 * 256]
        small, large = curve["seconds"]["values"]
        assert curve["seconds"]["exponent"] == pytest.approx(math.log(large / small, 4))
        assert f"| PAFPN | {curve['mode']} | {curve['who']} | {1e3 * small:.1f} | {1e3 * large:.1f} |" in page
        assert "peak_bytes" not in curve


def test_exponents_are_the_slopes(script: Callable[[str], ModuleType]) -> None:
    growth = script("benchmarks/growth")
    sizes = [(10, 10), (20, 30), (40, 40)]
    needs = [(who, h, w) for h, w in sizes for who in ("linear", "unmeasured")]
    samples = [
        growth.Sample("FPN", "training", who, (h, w), h * w / 1000, 2**20 * (h * w) ** 2 if who == "linear" else None)
        for who, h, w in needs
    ]
    linear, unmeasured = growth.curves(samples)
    assert linear["pixels"] == [100, 600, 1600] and "peak_bytes" not in unmeasured
    assert linear["seconds"]["exponent"] == unmeasured["seconds"]["exponent"] == pytest.approx(1)
    assert linear["peak_bytes"]["exponent"] == pytest.approx(2)
    header, rule, first, second = growth.growth_table([linear, unmeasured], sizes)
    assert {line.count("|") for line in (header, rule, first, second)} == {12}
    assert "| FPN | training | linear | 100.0 | 600.0 | 1600.0 | 1.00 | 10000.0 |" in first


def test_growth_needs_sizes(run_tool: Run, tmp_path: Path) -> None:
    done = run_tool("benchmarks/necks", "--out", tmp_path / "slopes", "--slopes", 2)
    assert done.returncode == 1 and "slopes=[2.0] must be at least two positive factors" in done.stderr


def test_compiled_necks_are_timed_beside_themselves(bench: Run, tmp_path: Path) -> None:
    report = bench(tmp_path / "compiled", "--neck", "PAFPN", "BFP", "--compile", "aot_eager")
    assert [(row["neck"], row["mode"]) for row in report["rows"]] == [
        (neck, mode) for neck in ("PAFPN", "BFP") for mode in ("inference", "training")
    ]
    page = (tmp_path / "compiled.md").read_text()
    for row in report["rows"]:
        necks = [*OURS[:2], *PEERS[row["neck"]]]
        assert list(row["compiled_by_eager"]) == necks and not row["does_not_compile"]
        assert all(row["first_pass_seconds"][who] > row["seconds"][f"{who}, compiled"] > 0 for who in necks)
        assert row["time_ratios"]["ours, compiled"] == 1
        assert all(f"| {row['neck']} | {row['mode']} | {who} |" in page for who in necks)
    assert "backend aot_eager" in page


@pytest.fixture
def compiled_tool(script: Callable[[str], ModuleType]) -> Any:
    """Module that runs ``--compile``."""
    return script("benchmarks/neck_compiled")


def test_a_graph_break_in_ours_is_an_error(compiled_tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = importlib.import_module("neck_passes")

    def broken(*arguments: Any) -> nn.Module:
        neck = build(*arguments)
        conv = next(layer for layer in neck.modules() if isinstance(layer, nn.Conv2d))
        conv.register_forward_pre_hook(torch.compiler.disable(lambda *_: None))
        return neck

    build = passes.build
    monkeypatch.setattr(passes, "build", broken)
    with pytest.raises(RuntimeError, match="disable"):
        next(compiled_tool.measure_compiled("BiFPN", passes.NeckSetting((64, 64), 1, False, "eager"), 1))


def test_a_peer_that_does_not_compile_is_timed_eagerly(compiled_tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no rule for this\nat length")

    prepare = compiled_tool.prepare
    monkeypatch.setattr(
        compiled_tool,
        "prepare",
        lambda kind, who, *more: fail if who == "effdet, compiled" else prepare(kind, who, *more),
    )
    setting = compiled_tool.NeckSetting((64, 64), 1, False, "eager")
    row = next(compiled_tool.measure_compiled("BiFPN", setting, 1))
    assert row["does_not_compile"] == {"effdet": "RuntimeError: no rule for this"}
    assert "effdet" in row["seconds"] and "effdet, compiled" not in row["seconds"]
    assert "does not compile: RuntimeError: no rule for this" in list(compiled_tool.table(row))[-1]


def test_backbones_are_compared_in_the_same_way(run: Run, tmp_path: Path) -> None:
    run("backbones", "--model", "swin_t", "--size", 64, 64, "--out", tmp_path / "swin")
    report = json.loads((tmp_path / "swin.json").read_text())
    for mode in ("inference", "training"):
        assert list(report[mode]) == ["ours", "mmdet", "detectron2"]
        assert all(row["tensors"] > 0 and row["seconds"] > 0 for row in report[mode].values())
    assert max(report["largest_relative_difference"].values()) < 1e-4
    page = (tmp_path / "swin.md").read_text()
    assert "| inference | mmdet |" in page and f"Measured on {report['date']} by `tools/benchmarks/backbones.py" in page


def test_growth_of_backbones(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "swin"
    run("backbones", "--model", "swin_t", "--size", 64, 64, "--slopes", 0.5, 1, "--no-memory", "--out", out)
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["sizes"] == [[32, 32], [64, 64]]
    assert [(curve["mode"], curve["who"]) for curve in report["curves"]] == [
        (mode, who) for mode in ("inference", "training") for who in ("ours", "mmdet", "detectron2")
    ]
    assert all("exponent" in curve["seconds"] and "peak_bytes" not in curve for curve in report["curves"])
    assert "| swin_t | training | mmdet |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
