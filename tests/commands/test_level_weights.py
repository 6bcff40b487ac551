"""The command line that weighs RetinaNet's levels: what it prints goes into both toolboxes' configs as it is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/level_weights.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_table_files_and_config_lines(tiny_coco: Path, tmp_path: Path) -> None:
    from fpn_plugins.data import find_split, level_weight_report

    ann_file = find_split(tiny_coco, "train").ann_file
    options = ["--resize", 240, 320, "--octave-base-scale", 1.5, "--exponent", 1, "--smoothing", 0.2]
    done = run(ann_file, *options, "--json", tmp_path / "weights.json", "--plot", tmp_path / "weights.png")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "weights.json").read_text())
    assert report == level_weight_report(ann_file, octave_base_scale=1.5, resize=(240, 320), exponent=1, smoothing=0.2)
    with Image.open(tmp_path / "weights.png") as image:
        assert image.width > 500
    weights = [round(level["weight"], 3) for level in report["levels"]]
    printed = [ast.literal_eval(found) for found in re.findall(r"\[[-0-9., ]+\]", done.stdout)]
    assert printed == [weights] * 3
    for level in report["levels"]:
        assert re.search(rf"^{level['level']} .* {level['objects']} .* {level['weight']:.3f}$", done.stdout, re.M)
    assert "fpn_plugins.RetinaHead" in done.stdout and "FPNPluginsRetinaNet" in done.stdout


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing.json")
    assert done.returncode == 1 and "nothing.json" in done.stderr and "Traceback" not in done.stderr
