"""The comparison of necks, at a size that tells nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# the packages that each kind is compared with
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


def run(tool: str, *arguments: Any) -> None:
    command = [sys.executable, f"tools/{tool}.py", *map(str, arguments), "--repeats", "1", "--threads", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


def bench(out: Path, *arguments: Any) -> dict[str, Any]:
    run("bench_necks", "--out", out, "--size", 128, 256, *arguments)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return json.loads(out.with_suffix(".json").read_text())


@pytest.mark.parametrize("options", [[], ["--bf16"]])
def test_every_kind_is_timed_beside_its_peers_and_its_convolutions(tmp_path: Path, options: list[str]) -> None:
    report = bench(tmp_path / "made" / "necks", "--no-memory", *options)
    assert [(row["neck"], row["mode"]) for row in report["rows"]] == [
        (neck, mode) for neck in PEERS for mode in ("inference", "training")
    ]
    page = (tmp_path / "made" / "necks.md").read_text()
    for row in report["rows"]:
        assert list(row["seconds"]) == [*OURS, *PEERS[row["neck"]], *FLOORS]
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["time_ratios"]["ours"]["ours"] == 1
        assert all(difference < 1e-4 for difference in row["largest_relative_difference"].values())
        assert all(f"| {row['neck']} | {row['mode']} | {who} |" in page for who in row["seconds"])
    assert report["processor"] in page and report["date"] in page and report["size"] == [128, 256]
    assert set(report["versions"]) == {"torch", "fpn_plugins", "mmdet", "detectron2", "torchvision", "effdet"}


def test_memory_is_that_of_the_pass(tmp_path: Path) -> None:
    inference, training = bench(tmp_path / "necks", "--necks", "BiFPN")["rows"]
    assert list(inference["peak_bytes"]) == list(training["peak_bytes"]) == [*OURS, "effdet"]
    finest = 4 * 64 * (128 // 8) * (256 // 8)  # a map of P3
    for who, peak in training["peak_bytes"].items():
        assert finest < inference["peak_bytes"][who]["tensors"] < peak["tensors"]
        if sys.platform == "linux":
            assert peak["resident"] > 0


def test_backbones_are_compared_likewise(tmp_path: Path) -> None:
    run("bench_backbones", "--model", "swin_t", "--size", 64, 64, "--out", tmp_path / "swin")
    report = json.loads((tmp_path / "swin.json").read_text())
    for mode in ("inference", "training"):
        assert list(report[mode]) == ["ours", "mmdet", "detectron2"]
        assert all(row["tensors"] > 0 and row["seconds"] > 0 for row in report[mode].values())
    assert max(report["largest_relative_difference"].values()) < 1e-4
    assert "| inference | mmdet |" in (tmp_path / "swin.md").read_text()
