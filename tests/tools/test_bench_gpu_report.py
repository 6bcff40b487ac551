"""The GPU kit runs sections in processes of their own, keeps their rows, and compares them with its goals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TINY = ["--device", "cpu", "--tiny"]
# stands for `gpu_section.py`: one row, and then what its section is for
WORKER = """
import json, sys, time
section, out = sys.argv[1], sys.argv[sys.argv.index("--out") + 1]
row = {"case": section, "precision": "bfloat16", "mode": "inference", "who": "ours", "ms": 1.0}
if section == "rotary":
    row = {**row, "error": "no kernel"}
if section != "parity":
    json.dump({"rows": [row]}, open(out, "w"))
if section == "windows":
    time.sleep(60)
sys.exit({"necks": 3, "rotary": 1}.get(section, 0))
"""


@pytest.fixture
def kit(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with `WORKER` for each section."""
    kit = script("benchmarks/gpu")
    (tmp_path / "gpu_section.py").write_text(WORKER)
    monkeypatch.setattr(kit, "HERE", tmp_path)
    monkeypatch.setattr(kit, "POLL_SECONDS", 0.05)
    return kit


def run(kit: ModuleType, out: Path, *arguments: str) -> tuple[bool, dict[str, dict[str, Any]]]:
    """Whether all went well, and the parts of the report by name."""
    fine = kit.run(kit.parse_args([*arguments, "--out", str(out), *TINY]))
    parts = json.loads(out.with_suffix(".json").read_text())["parts"]
    return fine, {part["part"]: part for part in parts}


def test_sections_are_stopped_and_the_next_one_runs(kit: ModuleType, tmp_path: Path) -> None:
    start = time.monotonic()
    fine, parts = run(kit, tmp_path / "gpu", "windows", "necks", "rotary", "vitdet", "--time-limit", "2")
    assert not fine and time.monotonic() - start < 20
    assert {name: part["status"] for name, part in parts.items()} == {
        "vitdet": "complete",
        "windows": "stopped after 2 s",
        "rotary": "complete",  # with an error in a row
        "necks": "failed, exit code 3",
    }
    assert all(part["rows"][0]["ms"] == 1.0 for part in parts.values())  # rows are kept
    text = (tmp_path / "gpu.md").read_text()
    for line in (
        "- windows: stopped after 2 s",
        "- necks: failed, exit code 3",
        "rotary, ours bfloat16 inference: no kernel",
    ):
        assert line in text


def test_a_later_run_adds_to_the_report(kit: ModuleType, tmp_path: Path) -> None:
    assert run(kit, tmp_path / "gpu", "vitdet")[0]
    fine, parts = run(kit, tmp_path / "gpu", "detectors", "parity")
    assert fine and list(parts) == ["parity", "vitdet", "detectors"] and parts["parity"]["rows"] == []


def test_the_default_run_ends_in_time(kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kit.SECTION_SECONDS <= 240 and kit.DEFAULT_SECONDS <= 540
    monkeypatch.setattr(kit, "DEFAULT_SECONDS", 0.0)
    fine, parts = run(kit, tmp_path / "gpu")
    assert not fine and set(parts) == set(kit.SECTIONS)
    assert {part["status"] for part in parts.values()} == {"not started: the time of the run was over"}


def test_the_full_run_has_a_process_for_each_model_and_precision(kit: ModuleType) -> None:
    args = kit.parse_args(["--full", "--out", "x", "--toolbox", "mmdet"])
    names = [part.name for part in kit.parts_of(args)]
    assert len(set(names)) == len(names)
    for name in ("parity", "vitdet float16", "necks csp_pafpn tf32", "detectors mmdet retinanet float32"):
        assert name in names
    assert not [name for name in names if "detectors detectron2" in name]
    worker = sys.modules["gpu_section"]
    (part,) = [part for part in kit.parts_of(args) if part.name == "necks fpn bfloat16"]
    again = worker.parse_args([part.section, "--out", "y", *worker.options_of(args, part.changed)])
    assert (again.necks, again.precisions, again.full) == (["fpn"], ["bfloat16"], True)
    assert again.toolboxes == ["mmdet"] and not again.tiny


def test_mistakes_are_one_line(kit: ModuleType, tmp_path: Path) -> None:
    script = Path(kit.__file__)
    command = [sys.executable, str(script), "windoes", "--out", str(tmp_path / "gpu"), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: section") and "windoes" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.glob("gpu.*"))


# --------------------------------------------------------------------------------------------------------------- goals


def row(who: str, ms: float, mode: str = "inference", **more: Any) -> dict[str, Any]:
    return {"model": "swin_t", "size": [800, 1344], "precision": "bfloat16", "mode": mode, "who": who, "ms": ms, **more}


def report(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [{"part": name, "section": name, "status": "complete", "rows": own} for name, own in rows.items()]
    return {"date": "1", "device": "GPU", "python": "3", "versions": {"torch": "2"}, "parts": parts}


def line(text: str, *beginning: str) -> str:
    """The only line of a page whose first cells are these."""
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {' | '.join(beginning)} |")]
    return found.removeprefix(f"| {' | '.join(beginning)} | ")


def test_goals_stand_beside_what_was_measured(script: Callable[[str], ModuleType]) -> None:
    kit = script("benchmarks/gpu_page")
    swin = [row("mmdet", 20.0, mib=50), row("detectron2", 10.0), row("ours", 11.0, mib=25), row("ours compiled", 6.0)]
    swin += [row("mmdet", 40.0, "training"), row("ours", 30.0, "training"), row("ours", 1.0, precision="float32")]
    vitdet = {"precision": "bfloat16", "mode": "training", "who": "ours", "peer": "stock"}
    text = kit.page(report(backbones=swin, vitdet=[{**vitdet, "time_ratio": 0.5, "memory_ratio": 0.3}]))
    assert line(text, "Swin-T: time", "inference") == "0.60 | 0.60 (ours compiled) | reached |"
    assert line(text, "Swin-T: time", "training") == "0.60 | 0.75 (ours) | not reached |"
    assert line(text, "MViTv2-T: time", "inference") == "0.60 | not measured |  |"
    name = "Mask R-CNN, ViTDet-B, 1024 x 1024, against Detectron2"
    assert line(text, f"{name}: time", "training") == "0.45 | 0.50 (ours) | not reached |"
    assert line(text, f"{name}: memory", "training") == "0.30 | 0.30 (ours) | reached |"
    slowest = "Our module as it is (eager) against the fastest toolbox, largest ratio"
    assert line(text, slowest, "inference") == "1.00 | 1.10 (swin_t, 800 x 1344, bfloat16) | not reached |"
    case = line(text, "swin_t, 800 x 1344", "bfloat16", "inference")
    assert case == "20 / 50 | 10 | 11 / 25 (1.10) | 6 (0.60) |"


def test_a_row_of_a_later_part_replaces_the_same_case(script: Callable[[str], ModuleType]) -> None:
    kit = script("benchmarks/gpu_goals")
    data = report(backbones=[row("ours", 11.0), row("mmdet", 10.0)])
    data["parts"] += [{"part": "more", "section": "backbones", "status": "complete", "rows": [row("ours", 5.0)]}]
    (found,) = kit.groups(kit.sections(data)["backbones"])
    assert [ratio.ratio for ratio in kit.ratios(found)] == [0.5]
