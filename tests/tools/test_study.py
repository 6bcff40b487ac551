"""The runner of studies: the smoke study in both toolboxes, interrupted, resumed, verified and summarized."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import study_anchors
import study_bases
import study_cells
import study_page
from study_design import Study, StudyCell, read_study
from study_levels import head_levels

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "configs/studies/smoke.yml"


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture
def study(
    tiny_coco: Path, work_dir: Path, run_tool: Callable[..., subprocess.CompletedProcess], monkeypatch: Any
) -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs the command line; each training is a process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return partial(run_tool, "studies/ablations/study", SMOKE, "--root", tiny_coco, "--work-dir", work_dir)


@pytest.mark.parametrize(
    "toolbox",
    [pytest.param("mmdet", marks=pytest.mark.mmdet), pytest.param("detectron2", marks=pytest.mark.detectron2)],
)
@pytest.mark.timm
def test_cell_runs_resumes_and_repeats(study, work_dir: Path, toolbox: str):
    name = f"fpn-retinanet-{toolbox}-seed0"
    done = study("--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    path = work_dir / f"results/{name}.json"
    result = json.loads(path.read_text())
    assert result["predictions"]["bbox"]["number"] > 0  # otherwise the comparison below says nothing
    assert result["curve"][-1]["iteration"] == 2 and result["cost"]["macs"] > 0 and result["versions"]["torch"]
    assert not list((work_dir / "cells" / name).glob("work-*"))

    before = path.stat().st_mtime_ns
    again = study("--only", name)
    assert "1 of them already done" in again.stdout and path.stat().st_mtime_ns == before

    verified = study("--verify", name)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"all {result['predictions']['bbox']['number']} detections" in verified.stdout

    summary = study("--summary").stdout
    assert "Results are missing" in summary and f"### {toolbox}, retinanet, boxes" in summary


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
@pytest.mark.parametrize(
    ("head", "names"), [("retinanet", None), ("mask_rcnn", ("fpn", "single_scale_c4", "fpn_p3p5", "fpn_stock"))]
)
def test_both_toolboxes_get_the_same_network(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, names: tuple | None
):
    """Every cell's config builds a detector whose heads run on its pyramid, and costs the same in both."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    study = read_study(ROOT / "configs/studies/fpn_ablations.yml")
    for variant in study.variants:
        if names is None or variant.name in names:
            costs = []
            for toolbox in study.toolboxes:
                cell = StudyCell(variant, head, toolbox, 0)
                costs.append(study_cells.cost(study, cell, tmp_path))
            if head == "retinanet":  # Detectron2's has biases in front of its four norms
                costs[1]["parameters"] -= 4 * head_levels(variant)[0].channels
            assert costs[0] == costs[1], variant.name
            assert costs[0]["macs"] > 0, variant.name


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
@pytest.mark.parametrize("head", ["retinanet", "mask_rcnn"])
def test_stock_variants_have_the_toolbox_neck(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
):
    """On the same backbone, with as many parameters as ours."""
    from detectron2.config import LazyConfig, instantiate
    from mmdet.registry import MODELS
    from mmengine.config import Config

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    study = read_study(ROOT / "configs/studies/fpn_ablations.yml")
    named = {variant.name: variant for variant in study.variants}
    fpn, stock = (
        replace(named[name], backbone={**named[name].backbone, "checkpoint": None}) for name in ("fpn", "fpn_stock")
    )
    necks = {}
    for toolbox in study.toolboxes:
        models = []
        for variant in (fpn, stock):
            path = tmp_path / f"{toolbox}_{variant.name}.py"
            path.write_text(study_cells.config_file(study, StudyCell(variant, head, toolbox, 0), tmp_path))
            lazy = toolbox == "detectron2"
            model = (LazyConfig.load(str(path)) if lazy else Config.fromfile(path)).model
            models.append(instantiate(model) if lazy else MODELS.build(model))
        necks[toolbox] = models[1].backbone if toolbox == "detectron2" else models[1].neck
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert counts[0] == counts[1], toolbox
    assert {t: type(neck).__module__ for t, neck in necks.items()} == {
        "mmdet": "mmdet.models.necks.fpn",
        "detectron2": "detectron2.modeling.backbone.fpn",
    }


@pytest.mark.detectron2
@pytest.mark.timm
def test_a_seed_gives_every_model_the_same_images(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In Detectron2's own trainer, flips depend on the random numbers that the model's initialization drew."""
    import torch
    from detectron2.config import get_cfg

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config
    from fpn_plugins.adapters.detectron2.datasets import register_from_environment
    from fpn_plugins.adapters.detectron2.engine import Trainer

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    register_from_environment()
    config = ROOT / "configs/detectron2/demo_retinanet.yaml"

    def first_batch(seed: int, drawn: int) -> list:
        options = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "SEED", str(seed)]
        cfg = get_cfg()
        add_fpn_plugins_config(cfg)
        cfg.merge_from_file(str(config))
        cfg.merge_from_list(options)
        torch.manual_seed(seed)
        torch.rand(drawn)
        batch = next(iter(Trainer.build_train_loader(cfg)))
        return [(entry["image_id"], entry["image"].tolist()) for entry in batch]

    assert first_batch(3, drawn=5) == first_batch(3, drawn=50)
    assert first_batch(3, drawn=5) != first_batch(4, drawn=5)


def fake_results(study: Study) -> list[dict]:
    """Results for the tables and the pictures."""
    return [
        {
            "cell": json.loads(json.dumps(asdict(cell))),
            "scores": {"bbox": dict.fromkeys(("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"), 0.25)},
            "curve": [{"iteration": 1, "AP": 0.24}, {"iteration": 2, "AP": 0.25}],
            "cost": {"macs": 1_500_000_000, "parameters": 2_000_000},
            **{"seconds": 1800.0, "versions": {"torch": "2"}, "hardware": "a machine"},
            **{"study": {"iterations": study.iterations}, "data": {"folder": "set"}},
        }
        for cell in study.cells()
    ]


@pytest.mark.timm
def test_page_states_missing_results_and_draws_the_others(tiny_coco: Path, tmp_path: Path):
    study = read_study(SMOKE)
    path = tmp_path / "accuracy.md"
    counted = study_anchors.count_anchors(study, tiny_coco)
    details = tmp_path / "accuracy_details.md"
    study_page.write_page(study, [], path, "fpn", counted)
    assert "No results: none of the study's 4 trainings" in details.read_text() and "No results" in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text()) == []

    results = fake_results(study)
    study_page.write_page(study, results[:3], path, "fpn", counted)
    text = details.read_text()
    assert "1 of 4 trainings have not been run**: single_scale_c4-retinanet-detectron2-seed0." in text
    assert "| `fpn` |  | 1 | 25.00 |" in text and "1.50 hours for 3 trainings" in text
    assert "| 8, 16, 32, 64, 128 | `fpn` | " in text and "| 16 | `single_scale_c4` | " in text
    for page, number in ((text, 4), (path.read_text(), 3)):
        linked = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
        assert len(linked) == number and all((tmp_path / name).stat().st_size > 5000 for name in linked)
    assert "Do the toolboxes agree?" not in text
    twice = replace(study, seeds=(0, 1))
    side_by_side = study_page.toolbox_comparison(twice, fake_results(twice), "fpn")
    row = "mmdet +0.00 ± 0.00 | detectron2 +0.00 ± 0.00 | +0.00 ± 0.00 | agree |"
    assert f"| retinanet | boxes | `single_scale_c4` | AP_S | {row}" in side_by_side
    assert "- retinanet, detectron2, by box AP: `fpn` 25.0, `single_scale_c4` 25.0" in side_by_side
    with pytest.raises(ValueError, match="baseline='pafpn' must be one of"):
        study_page.tables(study, results, "pafpn")


@pytest.mark.timm
def test_other_configs_and_broken_files_are_not_results(tiny_coco: Path, tmp_path: Path):
    study = read_study(SMOKE)
    place = study_cells.StudyFolders(tiny_coco, tmp_path)
    cell = study.cells()[0]
    path = place.result(cell)
    path.parent.mkdir()
    content = dict.fromkeys(study_cells.COMPLETE) | {"fingerprint": study_cells.identity(study, cell, place)}
    path.write_text(json.dumps(content))
    assert study_cells.finished(study, cell, place) is not None
    assert study_cells.finished(replace(study, iterations=4), cell, place) is None
    path.write_text(json.dumps(content)[:-9])
    assert study_cells.finished(study, cell, place) is None
    del content["scores"]
    path.write_text(json.dumps(content))
    assert study_cells.finished(study, cell, place) is None


def test_what_base_configs_set_of_logs_does_not_change_a_result(tmp_path: Path):
    path = tmp_path / "base.py"
    path.write_text('"""A base."""\n\nmax_iters = 3  # short\n')
    content = study_bases.base_content(path)
    path.write_text('"""The base."""\n\nmax_iters = 3\ndefault_hooks = dict(logger=dict(interval=1))\n')
    assert study_bases.base_content(path) == content == "max_iters = 3"
    path.write_text("max_iters = 4\n")
    assert study_bases.base_content(path) == "max_iters = 4"


@pytest.mark.timm
def test_results_of_other_machines_are_adopted(tiny_coco: Path, tmp_path: Path):
    study = read_study(SMOKE)
    place = study_cells.StudyFolders(tiny_coco, tmp_path / "here")
    first, second, *_ = study.cells()
    whole = dict.fromkeys(study_cells.COMPLETE)
    theirs = [
        whole | {"fingerprint": study_cells.identity(study, cell, place), "seconds": 7} for cell in (first, second)
    ]
    file = tmp_path / "accuracy.json"
    file.write_text(json.dumps([*theirs, whole | {"fingerprint": "of another study"}]))
    assert study_cells.adopt(study, study.cells(), place, file) == 2
    assert study_cells.finished(study, first, place)["seconds"] == 7

    path = place.result(first)
    path.write_text(json.dumps(theirs[0] | {"seconds": 8}))
    assert study_cells.adopt(study, study.cells(), place, file) == 0  # what is here stays
    assert study_cells.finished(study, first, place)["seconds"] == 8

    file.write_text(json.dumps([{"scores": {}}]))
    with pytest.raises(ValueError, match="not a list of results"):
        study_cells.adopt(study, study.cells(), place, file)


@pytest.mark.timm
def test_processes_divide_the_trainings(study, tiny_coco: Path, work_dir: Path):
    """A claimed training is left to its process, and is free when the process is gone."""
    declared = read_study(SMOKE)
    cell = next(cell for cell in declared.cells() if cell.variant.name == "single_scale_c4")
    place = study_cells.StudyFolders(tiny_coco, work_dir)
    with study_cells.claim(cell, place) as ours:
        assert ours
        with study_cells.claim(cell, place) as again:
            assert not again
        other = study("--only", cell.name)
        assert other.returncode == 0 and f"{cell.name}: another process runs it" in other.stdout + other.stderr
        assert not place.result(cell).exists()
    with study_cells.claim(cell, place) as ours:
        assert ours


ORPHAN = """
import sys
from pathlib import Path
from study_cells import claim
from study_training import StudyFolders, _run
import study_cells
import study_page
from study_design import read_study
study, root, log = map(Path, sys.argv[1:])
place = StudyFolders(root, root)
with claim(read_study(study).cells()[0], place):
    _run(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"], place, log)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="locks are inherited this way on Linux")
def test_a_training_that_outlives_its_study_keeps_the_cell(tmp_path: Path):
    log, cell, place = tmp_path / "log", read_study(SMOKE).cells()[0], study_cells.StudyFolders(tmp_path, tmp_path)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools/studies/ablations")])}
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(SMOKE), str(tmp_path), str(log)], env=env)
    try:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    finally:
        parent.kill()
        parent.wait()
    training = int(log.read_text())
    try:
        with study_cells.claim(cell, place) as ours:
            assert not ours
    finally:
        os.kill(training, signal.SIGKILL)
    wait_until(lambda: is_free(cell, place))


def is_free(cell: StudyCell, place) -> bool:
    with study_cells.claim(cell, place) as ours:
        return ours


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_launcher_starts_several_gpus(tmp_path: Path):
    from study_training import command

    study = read_study(SMOKE)
    cells = {cell.toolbox: cell for cell in study.cells()}
    config = tmp_path / "config.py"
    config.write_text("train_dataloader = dict(batch_size=4)\n")
    detectron2 = command(cells["detectron2"], config, tmp_path, {}, 2)
    assert detectron2[:5] == ["tools/train_net.py", "--num-gpus", "2", "--dist-url", "auto"]
    assert "--num-gpus" not in command(cells["detectron2"], config, tmp_path, {}, 0)


@pytest.mark.mmdet
def test_several_gpus_share_the_mmdet_batch(tmp_path: Path):
    from study_training import command

    cell = StudyCell(read_study(SMOKE).variants[0], "retinanet", "mmdet", 0)
    config = tmp_path / "config.py"
    config.write_text("train_dataloader = dict(batch_size=4)\n")
    mmdet = command(cell, config, tmp_path, {"a": 1}, 2)
    assert mmdet[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert mmdet[-5:] == ["--launcher", "pytorch", "--cfg-options", "a=1", "train_dataloader.batch_size=2"]
    with pytest.raises(ValueError, match="--gpus 3 must divide the total batch of 4 images"):
        command(cell, config, tmp_path, {}, 3)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/tmp/x", "", "a b", ".x"])
def test_a_variant_whose_files_would_leave_the_folder_is_refused(name: str):
    study = read_study(ROOT / "configs/studies/fpn_ablations.yml")
    with pytest.raises(ValueError, match=f"variant {re.escape(repr(name))}: a name is part of file names"):
        replace(study.variants[0], name=name)
