"""A training that was killed ends bit-equal to one that was not; `tools/benchmarks/resume.py` with few kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "case",
    [pytest.param("mmdet", marks=pytest.mark.mmdet), pytest.param("detectron2", marks=pytest.mark.detectron2)],
)
def test_a_killed_training_ends_like_an_uninterrupted_one(case: str, tmp_path: Path) -> None:
    """One kill at a random time, one while a checkpoint is written, and without the option the ends differ."""
    output = tmp_path / "result.json"
    command = ["tools/benchmarks/resume.py", "--case", case, "--kills", "2", "--seed", "1", "--json", str(output)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    result = json.loads(output.read_text())[case]
    assert result["equal"] and not result["without_the_option"]["equal"]
    assert sum(sum(training["kills"].values()) for training in result["trainings"]) == 2
    assert all(training["values"] > 200 for training in result["trainings"])
