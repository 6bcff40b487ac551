"""The comparison of revisions, with models too small to say anything about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import fpn_plugins

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tools" / "benchmarks"
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout, so there are no revisions")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "revisions.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_two_revisions_are_two_packages(script: Callable[[str], ModuleType], tmp_path: Path):
    package, models = script("benchmarks/revision_package"), script("benchmarks/bench_models")
    package.extract(package.commit_of("HEAD"), tmp_path)
    before = package.import_before(tmp_path)
    assert before is not fpn_plugins and before.__name__ == package.BEFORE
    assert Path(before.__file__).is_relative_to(tmp_path)
    nets = [models.build_ours("swin_t", copy, (64, 96), tiny=True) for copy in (before, fpn_plugins)]
    names = [[type(module).__module__.split(".")[0] for module in net.modules()] for net in nets]
    assert [{name for name in some if name.startswith("fpn_plugins")} for some in names] == [
        {"fpn_plugins_before"},
        {"fpn_plugins"},
    ]


def test_absolute_imports_of_the_package_are_found(script: Callable[[str], ModuleType]):
    own_imports = script("benchmarks/revision_package").own_imports
    assert not list(own_imports("from . import a\nfrom ..fpn_plugins import b\nimport fpn_plugins_other\n"))
    source = "import os\ndef f():\n    import os, fpn_plugins.necks\n    from fpn_plugins import FPN\n"
    assert list(own_imports(source)) == [3, 4]


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_leaves_inputs_alone_and_adds_to_gradients(script: Callable[[str], ModuleType], training: bool):
    models = script("benchmarks/bench_models")
    net = models.build_ours("fpn", fpn_plugins, (64, 64))
    inputs = models.make_inputs("fpn", (64, 64), 1)
    copies = [x.clone() for x in inputs]
    models.prepare_pass(net, inputs, training, torch.bfloat16)()
    assert net.training is training
    assert all(torch.equal(x, copy) and x.grad is None for x, copy in zip(inputs, copies, strict=True))
    assert all((p.grad is not None and bool(p.grad.any())) is training for p in net.parameters())


@pytest.mark.detectron2
def test_report_has_a_row_for_each(tmp_path: Path):
    out = tmp_path / "made" / "out"
    options = ["--model", "swin_t", "fpn", "--peer", "detectron2", "--size", 64, 96, "--repeats", 1]
    done = run("--before", "HEAD", *options, "--threads", 1, "--no-memory", "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    report, page = json.loads(out.with_suffix(".json").read_text()), out.with_suffix(".md").read_text()
    assert [(row["model"], row["threads"], row["mode"], row["who"]) for row in report["rows"]] == [
        (model, 1, mode, who)
        for model in ("swin_t", "fpn")
        for mode in ("inference", "training")
        for who in ("before", "after", "detectron2")
    ]
    for row in report["rows"]:
        assert min(row["seconds"], row["after_ratio"], row["before_ratio"]) > 0
        assert f"| {row['model']} | {row['mode']} | 1 | {row['who']} | {1e3 * row['seconds']:.1f} |" in page
    for found in report["largest_relative_difference"].values():
        assert set(found) == {"before", "detectron2"} and max(found.values()) < 1e-5
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert report["commits"] == {"before": head, "after": head}
    if not report["uncommitted"]:
        assert [found["before"] for found in report["largest_relative_difference"].values()] == [0, 0]
    first = page.splitlines()[2]
    assert "by `tools/benchmarks/revisions.py --before HEAD --model swin_t fpn" in first
    assert report["processor"] in first and head in first and "1 thread, with torch" in first
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_memory_is_measured_in_processes_that_have_both(tmp_path: Path):
    out = tmp_path / "out"
    options = ["--model", "vit_b", "--peer", "--size", 64, 64, "--repeats", 1, "--threads", 1]
    done = run("--before", "HEAD", *options, "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["who"] for row in rows] == ["before", "after"] * 2
    assert all(row["tensors"] > 0 and row["memory_ratio"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--before", "no-such-revision"], "error: revision 'no-such-revision' names no commit of "),
        (["--before=--all"], "error: revision '--all' names no commit of "),
        (["--before", "HEAD", "--size", 33, 64], "error: --size 33 64: both sides must be multiples of 32 pixels"),
    ],
)
def test_mistakes_are_one_line(options: list[object], message: str, tmp_path: Path):
    done = run(*options, "--peer", "--model", "fpn", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
