"""Checkpoints given to the training and testing commands: one line, exit code 1, and nothing is executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile import FILES

from fpn_plugins import TimmBackbone
from fpn_plugins.commands.runs import checkpoint_errors

ROOT = Path(__file__).resolve().parents[2]
HOSTILE, OTHER = ("payload_meta.pth", "payload_meta.pkl"), "other.pth"
# runs commands in forks of one process, which has imported the toolbox
RUN = """
import io, json, os, sys, traceback
from pathlib import Path

sys.path.insert(0, "tools/benchmarks")
import torch
from resume_cases import CASES, imports, train

torch.set_num_threads(1)
case, folder, doors = CASES[sys.argv[1]], Path(sys.argv[2]), json.loads(sys.argv[3])
imports(case.toolbox)
config = str(case.write(folder))
for number, door in enumerate(doors):
    log = folder / f"log_{number}"
    if not (pid := os.fork()):
        code = 99
        try:
            for stream in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            arguments = [part.format(config=config, folder=folder) for part in door]
            if arguments[0] == "test":
                from fpn_plugins.commands.test import main
                main(arguments[1:])
            else:
                train(case.toolbox, arguments[1:])
            code = 0
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([code, log.read_text()]), flush=True)
"""
MMDET = {
    "load_from": ["train", "{config}", "--cfg-options", f"load_from={{folder}}/{HOSTILE[1]}"],
    "resume": ["train", "{config}", "--resume", f"{{folder}}/{HOSTILE[0]}"],
    "test": ["test", "{config}", f"{{folder}}/{HOSTILE[0]}"],
    "init_cfg": [
        *("train", "{config}", "--cfg-options", "model.init_cfg.type=Pretrained"),
        f"model.init_cfg.checkpoint={{folder}}/{HOSTILE[0]}",
    ],
    "load_from_other": ["train", "{config}", "--cfg-options", f"load_from={{folder}}/{OTHER}"],
    "test_none": ["test", "{config}", "{folder}/none.pth"],
    "test_some": ["test", "{config}", "{folder}/some.pth"],
}
YAML = ["train", "--config-file", "{config}", "OUTPUT_DIR", "{folder}/out", "MODEL.WEIGHTS"]
DETECTRON2 = {
    **{f"weights_{name}": [*YAML, f"{{folder}}/{name}"] for name in HOSTILE},
    "eval": ["train", "--eval-only", *YAML[1:], f"{{folder}}/{HOSTILE[0]}"],
    "weights_other": [*YAML, f"{{folder}}/{OTHER}"],
    "weights_none": [*YAML, "{folder}/none.pth"],
    "eval_some": ["train", "--eval-only", *YAML[1:], "{folder}/some.pth"],
}


@pytest.mark.parametrize(
    ("case", "doors"),
    [
        pytest.param("mmdet", MMDET, marks=pytest.mark.mmdet),
        pytest.param("detectron2", DETECTRON2, marks=pytest.mark.detectron2),
    ],
)
def test_unusable_checkpoints_are_refused_at_every_door(
    case: str, doors: dict, tiny_coco: Path, tmp_path: Path
) -> None:
    for name in HOSTILE:
        FILES[name](tmp_path / name, tmp_path / "trace")
    torch.save({"state_dict": {"x.weight": torch.ones(2)}}, tmp_path / OTHER)
    bias = "backbone.neck.lateral_convs.0.bias"
    torch.save({"state_dict": {bias: torch.ones(16)}, "meta": {}}, tmp_path / "some.pth")
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco), "FPN_PLUGINS_CHECK_DATA": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, case, str(tmp_path), json.dumps(list(doors.values()))]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(doors), run.stderr[-3000:]
    assert not (tmp_path / "trace").exists()
    for (name, door), (code, log) in zip(doors.items(), found, strict=True):
        file = Path(door[-1]).name
        errors = [line for line in log.splitlines() if line.startswith("error: ")]
        assert code == 1 and "Traceback" not in log, (name, log[-2000:])
        assert len(errors) == 1 and file in errors[0], (name, errors)
        expected = "refused" if "payload" in file else {"none.pth": "exist|not found"}.get(file, "fit")
        assert any(part in errors[0] for part in expected.split("|")), (name, errors)


@pytest.mark.timm
def test_missing_weights_of_a_backbone_are_one_line_from_within_a_training(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop, checkpoint_errors():
        TimmBackbone("resnet18", checkpoint="data/weights/missing.safetensors")
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: checkpoint 'data/weights/missing.safetensors' does not exist")
