"""The command that weighs RetinaNet's levels prints lines for the configs of both toolboxes."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fpn_plugins.commands.level_weights import main
from fpn_plugins.data import find_split, level_weight_report


def test_table_files_and_config_lines(tiny_coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ann_file = find_split(tiny_coco, "train").ann_file
    options = ["--size", 240, 320, "--octave-base-scale", 1.5, "--exponent", 1, "--smoothing", 0.2]
    files = ["--json", tmp_path / "weights.json", "--plot", tmp_path / "weights.png"]
    main(list(map(str, [ann_file, *options, *files])))
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "weights.json").read_text())
    assert report == level_weight_report(ann_file, octave_base_scale=1.5, resize=(240, 320), exponent=1, smoothing=0.2)
    with Image.open(tmp_path / "weights.png") as image:
        assert image.width > 500
    weights = [round(level["weight"], 3) for level in report["levels"]]
    lists = [ast.literal_eval(found) for found in re.findall(r"\[[-0-9., ]+\]", printed)]
    assert lists == [weights] * 3
    for level in report["levels"]:
        assert re.search(rf"^{level['level']} .* {level['objects']} .* {level['weight']:.3f}$", printed, re.M)
    assert "fpn_plugins.RetinaHead" in printed and "FPNPluginsRetinaNet" in printed


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "nothing.json")])
    assert stop.value.code == 1 and "nothing.json" in capsys.readouterr().err
