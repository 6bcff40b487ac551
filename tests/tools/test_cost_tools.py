"""The command lines that count: both toolboxes' detectors, and the pages under ``docs`` that are made of counts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fpn_plugins import NECKS
from fpn_plugins.adapters.hosts import detector_cost

ROOT = Path(__file__).resolve().parents[2]
SIZE = (256, 320)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("stem", ["mask_rcnn_r50_fpn_12e", "retinanet_r50_fpn_12e"])
def test_both_toolboxes_cost_the_same(stem: str) -> None:
    """One stem, one network: the same MACs in neck and heads, from two code bases.

    Not in the backbone: Detectron2's ResNets stride in a stage's first 1x1 convolution, mmdet's in the 3x3.
    """
    ours, theirs = (
        detector_cost(str(ROOT / "configs" / toolbox / f"{stem}.py"), SIZE) for toolbox in ("mmdet", "detectron2")
    )
    for part in ("neck", "head"):
        assert ours.total(part).macs == theirs.total(part).macs > 0
    assert ours.total("neck").parameters == theirs.total("neck").parameters > 0
    assert ours.total("backbone").macs > theirs.total("backbone").macs > 0
    assert ours.conditions == theirs.conditions and ours.uncounted == theirs.uncounted == ()


@pytest.mark.mmdet
def test_neck_costs_the_same_as_in_mmdet() -> None:
    config = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
    theirs = detector_cost(config, SIZE)
    ours = detector_cost(config, SIZE, ["model.neck.type=fpn_plugins.FPN"])
    costs = ({c.name: (c.parameters, c.macs) for c in r.components if c.part == "neck"} for r in (ours, theirs))
    mine, others = costs
    assert mine == others and {"lateral convs", "output convs", "extra levels"} <= set(mine)


@pytest.mark.detectron2
def test_the_head_of_a_c4_model_is_the_last_stage_of_the_backbone() -> None:
    report = detector_cost("detectron2::COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", (800, 1344))
    # conv5 on 14 x 14 cells of each of 1000 regions: 3 blocks of 1x1, 3x3, 1x1, and the shortcut
    first = 1024 * 512 + 9 * 512**2 + 512 * 2048 + 1024 * 2048
    others = 2 * (2048 * 512 + 9 * 512**2 + 512 * 2048)
    predictor = 2048 * (81 + 80 * 4)
    assert report.total("head", "box head").macs == 1000 * (7 * 7 * (first + others) + predictor)
    assert report.conditions == ("1000 proposals, the most that the config allows",)


@pytest.mark.detectron2
@pytest.mark.timm
def test_yaml_with_our_backbone() -> None:
    report = detector_cost(str(ROOT / "configs/detectron2/demo_retinanet.yaml"), SIZE)
    assert {c.name for c in report.components if c.part == "head"} == {"dense head"}
    assert report.total("neck", "extra levels").macs > 0


@pytest.mark.mmdet
def test_unknown_detectors_are_errors() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        detector_cost("nowhere.py", SIZE)
    with pytest.raises(ValueError, match="toolbox 'caffe' is unknown"):
        detector_cost("caffe::x", SIZE)
    with pytest.raises(ValueError, match="DETR is neither"):
        detector_cost("mmdet::detr/detr_r50_8xb2-150e_coco.py", SIZE)


@pytest.mark.timm
def test_the_command_line(run_tool: Callable[..., Any], tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "c.json"), "--plot", str(tmp_path / "c.png")]
    network = ["--backbone", "resnet10t", "--neck", "FPN", "BiFPN", "--neck-args", "out_channels=32"]
    settings = ["--size", 64, 96, "--batch-size", 2, "--measure", "training"]
    done = run_tool("analyze_cost", *network, *settings, *files)
    assert done.returncode == 0, done.stderr
    assert "| neck | lateral convs |" in done.stdout and "MiB above the idle network" in done.stdout
    content = json.loads((tmp_path / "c.json").read_text())
    assert [report["title"] for report in content["counts"]] == ["resnet10t + FPN", "resnet10t + BiFPN"]
    assert all(found["peak_bytes"] > 0 and found["seconds"] > 0 for found in content["measured"])
    assert (tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.timm
def test_a_misspelled_neck_gets_a_suggestion(run_tool: Callable[..., Any]) -> None:
    done = run_tool("analyze_cost", "--backbone", "resnet10t", "--neck", "FPM")
    assert done.returncode == 1 and "(near: FPN" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c.py", "--neck", "FPN"], "--neck has no effect here: give --backbone"),
        (["c.py", "--batch-size", "2"], "--batch-size has no effect here: give --backbone"),
        (["c.py", "--measure", "training"], "--measure has no effect here: give --backbone"),
        (["--backbone", "resnet10t", "--options", "a=1"], "--options has no effect here: give configs"),
        (["--backbone", "resnet10t", "--neck-args", "a=1"], "--neck-args has no effect here: give --neck"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from fpn_plugins.commands import cost

    with pytest.raises(SystemExit):
        cost.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_every_neck_can_be_drawn(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    page = script("docs/necks")
    for name in NECKS:
        topology = page.topology_of(page.card_of(name))
        assert topology.arrows, name
        assert all(0 <= box.column < len(topology.columns) for box in topology.boxes.values()), name
    fpn = page.topology_of(page.card_of("FPN"))
    assert fpn.arrows[:3] == [("P5", "P6", ""), ("C5", "M5", "1×1"), ("M5", "P5", "3×3")]
    assert fpn.boxes["M4"] == (1, 4, "+", "merge")
    assert page.draw_topologies({"FPN": fpn}, tmp_path / "x.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a | b\n5: C5 | P5 < C4", "reads maps ['C4'] that it does not have"),
        ("a | b\n5: C5 | P5 <- C5", "level 5, column 1: 'P5 <- C5' must be a cell"),
        ("a | b\n5: C5 | P5 | P6", "column 2: 'P6' must be a cell"),
    ],
)
def test_a_malformed_topology_is_an_error(text: str, message: str, script: Callable[[str], ModuleType]) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        script("docs/topology").parse(text)


def test_pages_of_necks_are_current(script: Callable[[str], ModuleType]) -> None:
    page = script("docs/necks")
    assert (ROOT / "docs/necks.md").read_text() == page.render(), f"run {page.COMMAND}"
    for name, make in page.TABLES.items():
        text = (ROOT / name).read_text()
        assert text == page.with_table(text, make()), f"run {page.COMMAND}"
    pictures = {path.stem.removeprefix("neck_") for path in (ROOT / "docs/images").glob("neck_[A-Z]*.png")}
    assert pictures == set(NECKS), f"run {page.COMMAND}"
    with pytest.raises(ValueError, match="the page lacks the lines <!-- necks: begin"):
        page.with_table("no markers", "necks.md")


@pytest.mark.timm
@pytest.mark.detectron2
def test_the_page_of_claims_is_current(script: Callable[[str], ModuleType]) -> None:
    page = script("studies/claims/check")
    found = json.loads(page.RECORD.read_text())
    assert (ROOT / "docs/cost.md").read_text() == page.render(found), f"run {page.COMMAND}"
