"""A rank holds in every seed and at both lengths; finished trainings are those of the study."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import plots
import pytest
import study
import study_cells
import study_ranking
from study_design import Study, Variant, read_study

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/neck_ranking.md"


@pytest.fixture
def small() -> Study:
    variants = tuple(Variant(name, {"type": "TimmBackbone"}, {"type": "FPN"}) for name in ("fpn", "pafpn", "c4"))
    toolboxes = {"mmdet": None, "detectron2": ("fpn", "c4")}
    seeds = {"mmdet": (0, 1), "detectron2": (0,)}
    return Study("necks", variants, "fpn", 400, toolboxes=toolboxes, seeds=seeds, evaluations=4)


def run(variant: str, seed: int, ap: float, toolbox: str = "mmdet") -> dict:
    return {
        "cell": {"variant": {"name": variant}, "head": "retinanet", "toolbox": toolbox, "seed": seed},
        "scores": {"bbox": {"AP": ap / 100, "AP_S": ap / 100 / 2}},
        "curve": [{"iteration": step, "AP": part * ap / 100} for step, part in ((100, 0.5), (300, 0.95), (400, 1))],
        "cost": {"macs": 10**9, "parameters": 10**6},
        **{"seconds": 60.0, "hardware": "a machine", "versions": {}, "data": {"folder": "set"}},
        "study": {"iterations": 400},
    }


def both(full: dict[str, tuple[float, ...]], half: dict[str, tuple[float, ...]]) -> dict[str, list[dict]]:
    lengths = {"full": full, "half": half}
    return {
        key: [run(name, seed, ap) for name, values in found.items() for seed, ap in enumerate(values)]
        for key, found in lengths.items()
    }


def test_seeds_of_each_toolbox(small: Study):
    names = [cell.name for cell in small.cells()]
    assert sum("-mmdet-" in name for name in names) == 6
    assert [name for name in names if "-detectron2-" in name] == [
        "fpn-retinanet-detectron2-seed0",
        "c4-retinanet-detectron2-seed0",
    ]
    with pytest.raises(ValueError, match="wrong for \\['detectron2'\\]"):
        replace(small, seeds={"mmdet": (0,)})


def test_half_a_study_has_half_the_iterations_and_the_same_cells(small: Study):
    half = small.half()
    assert (half.iterations, half.evaluations) == (200, 2)
    assert [cell.name for cell in half.cells()] == [cell.name for cell in small.cells()]


@pytest.mark.parametrize(
    ("full", "half", "rank"),
    [
        ((41, 43), (31, 33), "better"),
        ((39, 40), (29, 31), "worse"),
        ((41, 43), (31, 31), "tie"),  # one seed at half length is worse
        ((41, 41), (31, 33), "tie"),
        ((40, 43), (31, 33), "tie"),  # no difference in one seed
        ((41, 43), (31,), "unfinished"),
        ((41, 43), (), "unfinished"),
        ((41, 41), (31,), "tie"),  # whatever the missing one brings
    ],
)
def test_a_rank_holds_in_every_seed_and_at_both_lengths(
    small: Study, full: tuple[float, ...], half: tuple[float, ...], rank: str
):
    results = both({"fpn": (40, 42), "pafpn": full}, {"fpn": (30, 32), "pafpn": half})
    (row,) = (row for row in study_ranking.ranked(small, results) if row.name == "pafpn")
    assert row.rank == rank


def test_the_page_states_what_is_missing_and_that_the_baseline_still_rises(
    small: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = both({"fpn": (40, 42), "c4": (30, 31)}, {"fpn": (38, 40), "c4": (20, 21)})
    results["full"].append(run("c4", 0, 33, "detectron2"))
    results["full"].append(run("fpn", 0, 36, "detectron2"))
    page = tmp_path / "ranking.md"
    with plots.recorded(monkeypatch) as figures:
        study_ranking.write_ranking(small, results, page)
    text = page.read_text()
    assert "10 of 16 planned trainings are finished" in text
    assert "`fpn` reaches 39.0 AP in 200 iterations and 41.0 in 400: twice the training brings +2.0." in text
    assert "From iteration 300 to 400 it changes by +2.0, +2.1 in its trainings." in text
    assert (
        "| `c4` |  | 2 | 30.5 ± 0.7 | -10.5 ± 0.7 | -18.5 ± 0.7 | **worse** | -3.0 | 15.2 ± 0.4 | 1.00 | 1.00 |" in text
    )
    assert json.loads(page.with_suffix(".json").read_text()) == results
    assert [plots.faults(figure) for figure in figures] == [[]]
    with pytest.raises(ValueError, match="fpn has no result at full and half length yet"):
        study_ranking.write_ranking(small, {"full": results["full"], "half": []}, page)


def test_published_results_of_another_kind_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "x.json"
    file.write_text("[]")
    smoke = str(ROOT / "configs/studies/smoke.yml")
    arguments = ["study.py", smoke, "--ranking", str(tmp_path / "x.md"), "--results", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        study.main()
    assert "is not the JSON file that --ranking writes" in capsys.readouterr().err


def test_finished_trainings_are_those_of_the_study(monkeypatch: pytest.MonkeyPatch):
    """They are adopted by the hash of their configs, so a change of the study would lose them."""
    ranking = read_study(ROOT / "configs/studies/neck_ranking.yml")
    published = json.loads(study_ranking.results_file(PAGE).read_text(encoding="utf-8"))
    for part, length in ((ranking, "full"), (ranking.half(), "half")):
        cells = {cell.name: cell for cell in part.cells()}
        for result in published[length]:
            cell = result["cell"]
            name = f"{cell['variant']['name']}-{cell['head']}-{cell['toolbox']}-seed{cell['seed']}"
            config = study_cells.config_file(part, cells[name], study_cells.PLACEHOLDER)
            assert result["config"] == config.replace(str(study_cells.CONFIGS), study_cells.BASE_FOLDER), name
            annotations = dict(zip(("train", "val"), result["data"]["annotations"], strict=True))
            monkeypatch.setattr(study_cells, "_annotations", lambda _, split, found=annotations: found[split])
            place = study_cells.StudyFolders(Path(), Path())
            assert result["fingerprint"] == study_cells.identity(part, cells[name], place), name
    assert len(study_cells.read_published(study_ranking.results_file(PAGE))) == sum(map(len, published.values())) > 0


def test_the_page_is_that_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = json.loads(study_ranking.results_file(PAGE).read_text(encoding="utf-8"))
    (tmp_path / "images").mkdir()
    with plots.recorded(monkeypatch) as figures:
        text = study_ranking.ranking_page(
            read_study(ROOT / "configs/studies/neck_ranking.yml"), results, tmp_path / PAGE.name
        )
    assert PAGE.read_text(encoding="utf-8") == text
    assert [plots.faults(figure) for figure in figures] == [[]]
