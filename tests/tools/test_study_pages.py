"""The study's published pages are what its script makes of the committed results; recommendations follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import plots
import pytest
import study_choice
import study_page
import study_plots
from PIL import Image
from study_design import Study, read_study

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/accuracy.md"
FILES = study_page.PageFiles(PAGE)


@pytest.fixture(scope="module")
def study() -> Study:
    return read_study(ROOT / "configs/studies/fpn_ablations.yml")


@pytest.fixture(scope="module")
def results() -> list[dict]:
    return json.loads(FILES.results.read_text(encoding="utf-8"))


def test_the_published_pages_and_pictures_are_current(
    study: Study, results: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = json.loads(FILES.anchors.read_text(encoding="utf-8"))
    with plots.recorded(monkeypatch) as figures:
        study_page.write_page(study, results, tmp_path / PAGE.name, study.baseline, counted)
    remedy = "run make pages"
    for name in (PAGE.name, FILES.details.name):
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(), remedy
    made = sorted(tmp_path.glob("images/*.png"))
    assert [path.name for path in made] == sorted(path.name for path in PAGE.parent.glob("images/accuracy_*.png"))
    for path in made:
        shapes = [Image.open(folder / path.name).size for folder in (path.parent, PAGE.parent / "images")]
        assert shapes[0] == shapes[1], remedy
    assert [plots.faults(figure) for figure in figures] == [[] for _ in made]


def test_the_page_for_users_has_three_figures_and_both_directions() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("\n![") == 3 and len(text) < 9000
    assert "(accuracy_details.md)" in text and "cannot say" in text and "seeds" in text and "iterations" in text


def result(variant: str, seed: int, ap: float, toolbox: str = "mmdet") -> dict:
    scores = dict.fromkeys(("AP", "AP50", "AP_S", "AP_M", "AP_L"), ap / 100)
    cell = {"variant": {"name": variant}, "head": "retinanet", "toolbox": toolbox, "seed": seed}
    return {"cell": cell, "scores": {"bbox": scores}, "cost": {"macs": 10**9, "parameters": 10**6}, "curve": []}


@pytest.mark.parametrize(("gains", "leaders"), [((4, 5, 6), ("fpn",)), ((-1, 5, 6), ("fpn", "pafpn"))])
def test_leaders_are_those_within_two_standard_errors_of_the_best(
    study: Study, gains: tuple[int, ...], leaders: tuple[str, ...]
) -> None:
    results = [result("pafpn", seed, 20) for seed in range(3)]
    results += [result("fpn", seed, 20 + gain) for seed, gain in enumerate(gains)]
    results += [result("fpn_stock", seed, 90) for seed in range(3)]  # not shown
    (ranking,) = study_choice.rank(study, results, "AP_S")
    assert ranking.leaders == leaders
    row = list(study_choice.table([ranking], "AP_S"))[-1]
    assert row.startswith("| RetinaNet, MMDetection | `fpn` | ")
    assert row.endswith("| clear |" if len(leaders) == 1 else "| not told apart |")


def test_the_first_recommendation_leads_in_most_detectors(study: Study) -> None:
    results = [result(name, s, ap + s / 10, "mmdet") for name, ap in (("fpn", 9), ("pafpn", 5)) for s in range(3)]
    results += [result(name, s, ap, "detectron2") for name, ap in (("fpn", 9), ("fpn_128", 9)) for s in range(3)]
    text = study_choice.recommendation(study_choice.rank(study, results, "AP"))
    assert text.startswith("**`fpn`** is the best, or within two standard errors of the best, in 2 of 2 detectors")
    assert "`fpn_128` in the only detector that was trained with it" in text and "pafpn" not in text


def test_variants_that_still_rise_are_named_and_lead_nowhere(study: Study, results: list[dict]) -> None:
    found = study_choice.unfinished_variants(study, results)
    assert "bifpn" in found and "fpn" not in found
    assert all(f"`{name}`" in PAGE.read_text(encoding="utf-8") for name in found)
    rows = [line for line in FILES.details.read_text(encoding="utf-8").splitlines() if line.startswith("| `bifpn` |")]
    assert rows and all("still rising: not ranked" in row for row in rows)
    rising = [{"iteration": k, "AP": ap} for k, ap in enumerate((0.1, 0.9))]
    own = [result("fpn", seed, 20) for seed in range(3)] + [result("pafpn", seed, 10) for seed in range(3)]
    own += [{**result("fpn_p2p6", seed, 90), "curve": rising} for seed in range(3)]
    (ranking,) = study_choice.rank(study, own, "AP")
    assert ranking.leaders == ("fpn",)


def test_a_figure_shows_at_most_eight(study: Study, results: list[dict], tmp_path: Path) -> None:
    own = [r for r in results if (r["cell"]["toolbox"], r["cell"]["head"]) == ("mmdet", "retinanet")]
    everything = study_choice.summarize(own, study.baseline)
    assert len(everything) > 8
    with pytest.raises(ValueError, match="index=8: a plot shows at most 8 series"):
        study_plots.draw_cost(everything, [], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="9 variants are too many for a figure"):
        Study("x", study.variants, "fpn", 2, shown=tuple(v.name for v in study.variants[:9]))
