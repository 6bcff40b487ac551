"""Hostile and damaged files: one line that names the file, nothing executed, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import FILES, write_all

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
MEMORY = 1.5 * 2**30  # bytes above the process before reading; the largest file unpacks to 200 MB
SECONDS = 10

# reads each file in every way in one process, which the limit of memory applies to
READ = """
import json, os, resource, sys, time, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch
from fpn_plugins.weights import read_checkpoint
from fpn_plugins.weights.checkpoint import read_content
from fpn_plugins.zoo.publish import clean_checkpoint

way, files = sys.argv[1], json.loads(sys.argv[2])
if way in ("read_checkpoint", "read_content", "clean_checkpoint"):
    read = {"read_checkpoint": read_checkpoint, "read_content": read_content, "clean_checkpoint": clean_checkpoint}[way]
elif way == "convert":
    from contextlib import redirect_stderr
    from io import StringIO

    from fpn_plugins.commands.convert import main

    def read(file):
        output = StringIO()
        try:
            with redirect_stderr(output):
                main([file, f"{file}.out.pth", "--config", "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"])
        except SystemExit:
            raise ValueError(output.getvalue().strip()) from None
elif way == "load_detector_weights":
    from fpn_plugins.inference import load_detector_weights

    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2)})
    read = lambda file: load_detector_weights(model, file)
else:
    import importlib

    detector = importlib.import_module(f"fpn_plugins.adapters.{way}.detector")
    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2)})
    detector._build = lambda cfg, device: model
    if way == "detectron2":
        detector.build = lambda config, options=(): model
    config = {"mmdet": "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "detectron2": "detectron2::x.yaml"}[way]
    read = lambda file: detector.load(config, file)
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]) + 4 * 2**30,) * 2)
for file in files:
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read(file)
        error = None
    except (ValueError, FileNotFoundError) as found:
        error = f"{type(found).__name__}: {found}"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps([file, error, time.monotonic() - start, grown]), flush=True)
"""


def test_the_corpus_is_large():
    assert len(FILES) >= 40


@pytest.mark.parametrize(
    "way",
    [
        *("read_checkpoint", "read_content", "clean_checkpoint", "load_detector_weights"),
        pytest.param("convert", marks=pytest.mark.mmdet),
        pytest.param("mmdet", marks=pytest.mark.mmdet),
        pytest.param("detectron2", marks=pytest.mark.detectron2),
    ],
)
def test_hostile_files_are_refused(way: str, tmp_path: Path):
    trace = tmp_path / "trace"
    files = write_all(tmp_path, trace)
    command = [sys.executable, "-c", READ, way, json.dumps(list(map(str, files))), str(int(MEMORY))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * 30, cwd=Path(__file__).parents[2])
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(files), (run.stderr[-3000:], found[-1:])
    assert not trace.exists()
    accepted = [Path(file).name for file, error, *_ in found if error is None]
    if way != "read_content":
        assert accepted == []
    assert [line for line in found if line[1] and ("\n" in line[1] or Path(line[0]).name not in line[1])] == []
    assert [line for line in found if line[2] > SECONDS or line[3] > MEMORY] == []
