"""Commands that take a detector of either toolbox: convert, compare, predict, draw the pyramid; study of precision."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from payload import Payload
from PIL import Image

from fpn_plugins.adapters.detectors import load_detector
from fpn_plugins.analysis import evaluate_predictions, spread_predictions
from fpn_plugins.analysis.evaluation import evaluate_detectors
from fpn_plugins.data import find_split
from fpn_plugins.weights import read_checkpoint, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {name: str(ROOT / f"configs/{name}/demo_mask_rcnn.py") for name in ("mmdet", "detectron2")}
SIZE = ["--size", "120", "160"]
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]


def run(command: str, arguments: list[Any], tiny_coco: Path, code: int = 0) -> str:
    """Run a command in this process and return its output."""
    output, found = io.StringIO(), 0
    environment = mock.patch.dict(os.environ, FPN_PLUGINS_COCO=str(tiny_coco))
    with environment, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            importlib.import_module(f"fpn_plugins.commands.{command}").main(list(map(str, arguments)))
        except SystemExit as stop:
            found = stop.code
    assert found == code, output.getvalue()[-3000:]
    return output.getvalue()


def run_study(arguments: list[Any], tiny_coco: Path, code: int = 0) -> str:
    """Run the study of precision in a process of its own and return its output."""
    command = [sys.executable, ROOT / "tools/studies/precision/evaluate.py", *arguments]
    env = {**os.environ, "FPN_PLUGINS_COCO": str(tiny_coco)}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def weights(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of mmdet's demo detector, with which it detects objects."""
    from fpn_plugins.adapters.hosts import build_detector
    from fpn_plugins.adapters.mmdet.inference import Predictor

    torch.manual_seed(0)
    with mock.patch.dict(os.environ, FPN_PLUGINS_COCO=str(tiny_coco)):
        model: Any = build_detector(CONFIGS["mmdet"])
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    spread_predictions(model, lambda: Predictor(model, 120, 160)(image))
    return write_checkpoint(model.state_dict(), tmp_path_factory.mktemp("weights") / "mmdet.pth")


@pytest.fixture(scope="module")
def converted(weights: Path, tiny_coco: Path) -> Path:
    """The same weights for Detectron2."""
    output = weights.with_name("detectron2.pkl")
    command = [weights, output, "--config", CONFIGS["detectron2"]]
    printed = run("convert", [*command, "--source-config", CONFIGS["mmdet"]], tiny_coco)
    assert "mmdet -> detectron2" in printed and "wrote" in printed
    return output


def test_converting_back_gives_the_same_file(weights: Path, converted: Path, tiny_coco: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.safetensors"
    run("convert", [converted, back, "--config", CONFIGS["mmdet"]], tiny_coco)
    one, other = read_checkpoint(weights), read_checkpoint(back)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_both_toolboxes_have_the_same_ap(weights: Path, converted: Path, tiny_coco: Path, tmp_path: Path) -> None:
    output = tmp_path / "compare.json"
    command = ["--mmdet", CONFIGS["mmdet"], weights]
    command += ["--detectron2", CONFIGS["detectron2"], converted, "--root", tiny_coco, "--out", output, *SIZE]
    assert "detections agree" in run("compare", command, tiny_coco)
    report = json.loads(output.read_text())
    assert report["agreement"]["share"] >= 0.99 and report["agreement"]["total"] > 10
    for kind in ("bbox", "segm"):
        one, other = (report["scores"][name][kind]["AP"] for name in ("mmdet", "detectron2"))
        assert abs(one - other) <= 0.001


def test_fast_paths_are_compared_with_single_precision(
    weights: Path, converted: Path, tiny_coco: Path, tmp_path: Path
) -> None:
    out = tmp_path / "precision"
    detectors = [("--detector", CONFIGS["mmdet"], weights), ("--detector", CONFIGS["detectron2"], converted)]
    run_study([*detectors[0], *detectors[1], "--root", tiny_coco, "--out", out, *SIZE], tiny_coco)
    report, page = json.loads(out.with_suffix(".json").read_text()), out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [row["form"] for row in report["rows"]] == 2 * [
        *("single precision", "channels_last"),
        *("channels_last, backbone and neck in bf16", "channels_last, all in bf16"),
    ]
    for row in report["rows"]:
        exact = "bf16" not in row["form"]
        # of random weights, which of many like scores are the highest is a matter of digits
        assert row["agree"] >= (0.99 if exact else 0.1) and row["detections"] > 10
        assert all(abs(row["differences"][kind]["AP"]) < (0.1 if exact else 3) for kind in ("bbox", "segm"))
        assert f"| {row['detector']} | masks | {row['form']} |" in page
    rounded = report["rows"][-1]
    assert rounded["agree"] < 1 or rounded["scores"] != report["rows"][4]["scores"]  # it was computed otherwise


def test_a_detector_without_a_fast_path_is_refused(weights: Path, tiny_coco: Path, tmp_path: Path) -> None:
    config = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
    command = ["--detector", config, weights, "--root", tiny_coco, "--out", tmp_path / "x"]
    assert "PyramidBackbone" in run_study(command, tiny_coco, code=1) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
def test_predict_draws_images_and_writes_json(
    toolbox: str, weights: Path, converted: Path, tiny_coco: Path, tmp_path: Path
) -> None:
    split = find_split(tiny_coco, "val")
    file = weights if toolbox == "mmdet" else converted
    command = [CONFIGS[toolbox], file, split.image_dir, "--out", tmp_path, "--score", "0.01"]
    run("predict", [*command, "--annotations", split.ann_file, *SIZE], tiny_coco)
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert found and len(list(tmp_path.glob("*.png"))) == len(list(split.image_dir.iterdir()))
    truth = json.loads(split.ann_file.read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    assert all(names[entry["category_id"]] == entry["category_name"] for entry in found)
    assert {entry["image_id"] for entry in found} <= {image["id"] for image in truth["images"]}
    scores = evaluate_detectors({"d": load_detector(CONFIGS[toolbox], file, (120, 160))}, split)[0]["d"]
    run("predict", [*command, "--annotations", split.ann_file, *SIZE, "--score", "0", "--no-pictures"], tiny_coco)
    for kind in ("bbox", "segm"):
        assert evaluate_predictions(split.ann_file, tmp_path / "predictions.json", kind) == scores[kind]


@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
def test_the_pyramid_of_an_image(toolbox: str, weights: Path, converted: Path, tiny_coco: Path, tmp_path: Path) -> None:
    image = sorted(find_split(tiny_coco, "val").image_dir.iterdir())[0]
    file = weights if toolbox == "mmdet" else converted
    output = tmp_path / "pyramid.png"
    run("pyramid", [CONFIGS[toolbox], file, image, "--out", output, "--score", "0.01", *SIZE], tiny_coco)
    assert min(np.asarray(Image.open(output)).shape[:2]) > 200
    objects = json.loads(output.with_suffix(".json").read_text())["objects"]
    assert objects and {entry["level"] for entry in objects} <= {"p2", "p3", "p4", "p5"}


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_pickled_payload_is_refused_and_not_run(suffix: str, tiny_coco: Path, tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / f"bad{suffix}"
    content = {"state_dict": {"a": torch.zeros(1)}, "meta": Payload(ran)}
    if suffix == ".pth":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps({"model": {"a": np.zeros(1)}, "meta": Payload(ran)}))
    output = tmp_path / "out.pth"
    printed = run("convert", [file, output, "--config", CONFIGS["mmdet"]], tiny_coco, code=1)
    assert f"cannot read checkpoint '{file}'" in printed and "refused posix.mkdir" in printed
    assert "torch.save(" in printed and not ran.exists() and not output.exists()


def test_configs_that_differ_are_refused(weights: Path, tiny_coco: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pth"
    command = [weights, output, "--config", CONFIGS["detectron2"], "--source-config"]
    options = ["--options", "model.pixel_mean=[0,0,0]"]
    assert (
        "pixel_mean" in run("convert", [*command, CONFIGS["mmdet"], *options], tiny_coco, code=1)
        and not output.exists()
    )
    run("convert", [*command, CONFIGS["mmdet"], *options, "--force"], tiny_coco)
    assert output.exists()
