"""The comparison of whole detectors, at a size too small to say anything about speed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXACT = ["stock", "ours", "ours, channels_last"]
BF16 = ["stock, bf16", "ours, channels_last, bf16"]
TOOLBOXES = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]
pytestmark = pytest.mark.timm


@pytest.fixture
def run(run_tool: Callable[..., Any]) -> Callable[..., str]:
    """A function that runs the benchmark, and returns what it printed on standard error."""

    def benchmark(out: Path, *arguments: Any, code: int = 0) -> str:
        done = run_tool("benchmarks/detectors", "--out", out, "--repeats", 1, "--threads", 1, *arguments)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stderr

    return benchmark


@pytest.mark.parametrize("toolbox", TOOLBOXES)
def test_every_form_computes_what_stock_does(run: Callable[..., str], toolbox: str, tmp_path: Path) -> None:
    run(tmp_path / "det", "--toolbox", toolbox, "--size", 64, 96, "--no-memory", "--form", *EXACT)
    report = json.loads((tmp_path / "det.json").read_text())
    assert [(row["detector"], row["mode"]) for row in report["rows"]] == [
        (detector, mode) for detector in ("mask_rcnn", "retinanet") for mode in ("inference", "training")
    ]
    page = (tmp_path / "det.md").read_text()
    for row in report["rows"]:
        assert list(row["seconds"]) == EXACT and row["time_ratios"]["stock"] == 1
        assert all(f"| {row['detector']} | {row['mode']} | {who} |" in page for who in EXACT)
        if row["mode"] == "inference":
            assert row["objects"]["stock"] == 100  # as many as the configs let through
            assert all(share > 0.95 for share in row["equal_objects"].values())
        else:
            found = row["largest_relative_difference"]
            assert found["ours"] < 1e-5 and all(found[who] < 1e-3 for who in EXACT)
            assert all(value > 0 for value in row["losses"]["ours"].values())
    assert report["processor"] in page and report["size"] == [64, 96]
    assert {"torch", "fpn_plugins", "timm", toolbox} <= set(report["versions"])
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")


# processors without instructions for bf16 emulate it, slowly: Mask R-CNN has its test where AP is compared
@pytest.mark.parametrize("toolbox", TOOLBOXES)
def test_bf16_rounds_the_losses(run: Callable[..., str], toolbox: str, tmp_path: Path) -> None:
    options = ["--toolbox", toolbox, "--detector", "retinanet", "--size", 64, 64, "--no-memory"]
    run(tmp_path / "det", *options, "--form", "stock", *BF16)
    inference, training = json.loads((tmp_path / "det.json").read_text())["rows"]
    assert list(inference["seconds"]) == list(training["seconds"]) == ["stock", *BF16]
    assert list(inference["equal_objects"]) == ["stock"] and all(inference["objects"].values())
    assert all(0 < training["largest_relative_difference"][who] < 1 for who in BF16)


@pytest.mark.detectron2
def test_memory_is_that_of_the_pass(run: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["--toolbox", "detectron2", "--detector", "retinanet", "--form", "ours", "--batch-size", 2]
    run(tmp_path / "det", *arguments, "--size", 64, 64)
    inference, training = json.loads((tmp_path / "det.json").read_text())["rows"]
    assert list(inference["peak_bytes"]) == list(training["peak_bytes"]) == ["stock", "ours"]
    stem = 2 * 4 * 64 * 32 * 32  # the first map, of two images
    for who, peak in training["peak_bytes"].items():
        assert stem < inference["peak_bytes"][who]["tensors"] < peak["tensors"]
    assert inference["objects"]["ours"] > 0


@pytest.mark.detectron2
def test_images_too_small_for_objects_are_refused(run: Callable[..., str], tmp_path: Path) -> None:
    assert "is too small" in run(tmp_path / "det", "--toolbox", "detectron2", "--size", 32, 64, code=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.mmdet
def test_heads_of_a_cascade_run_in_bf16(script: Callable[[str], ModuleType]) -> None:
    import torch

    from fpn_plugins.adapters.mmdet import detector as host

    options = ["test_cfg.rpn.max_per_img=20", "test_cfg.rcnn.score_thr=0.0", "test_cfg.rcnn.max_per_img=2"]
    options += [f"roi_head.bbox_head.{stage}.fc_out_channels=64" for stage in range(3)]
    config = "mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py"
    torch.manual_seed(0)
    model = host.build(config, [f"model.{option}" for option in options]).eval()
    script("benchmarks/mmdet_bf16").allow_bf16(model)
    types = []
    for head in model.roi_head.bbox_head:
        head.fc_cls.register_forward_hook(lambda _, inputs, scores: types.append(scores.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = host.detect(model, script("benchmarks/pictures").draw_pictures(1, (64, 64)))
    assert types == 3 * [torch.bfloat16] and len(found.boxes) and found.boxes.dtype == torch.float32
