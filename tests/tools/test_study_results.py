"""Ablation studies: declaration, levels and anchors of the heads, and statistics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from study_design import STUDY_METRICS, Expectation, Study, Variant, fingerprint, read_study
from study_levels import head_levels, shared_anchor_sizes
from study_results import judge, summarize, toolbox_gaps

STUDIES = Path(__file__).resolve().parents[2] / "configs/studies"
CNN = {"type": "TimmBackbone", "name": "mobilenetv2_100", "out_indices": [2, 3, 4]}


def result(variant: str, seed: int, ap: float, small: float = 0.1, toolbox: str = "mmdet") -> dict:
    scores = {**dict.fromkeys(STUDY_METRICS, ap), "AP_S": small}
    cell = {"variant": {"name": variant}, "head": "retinanet", "toolbox": toolbox, "seed": seed}
    return {"cell": cell, "scores": {"bbox": scores}, "cost": {"macs": 2_000_000_000, "parameters": 5}}


def test_differences_are_paired_by_seed():
    results = [result("fpn", seed, ap) for seed, ap in ((0, 0.30), (1, 0.40), (2, 0.50))]
    results += [result("c4", seed, ap) for seed, ap in ((0, 0.28), (1, 0.36))]
    fpn, c4 = summarize(results, "fpn")
    assert fpn.mean["AP"] == pytest.approx(40) and fpn.deviation["AP"] == pytest.approx(10)
    assert fpn.difference["AP"] == 0 and c4.seeds == (0, 1)
    # -2 and -4: mean -3, deviation sqrt(2), error sqrt(2) / sqrt(2)
    assert c4.difference["AP"] == pytest.approx(-3) and c4.error["AP"] == pytest.approx(1)
    assert c4.deviation["AP"] == pytest.approx(8 / math.sqrt(2))
    assert c4.gmacs == 2 and c4.parameters == 5


def test_one_seed_has_no_spread_and_absent_sizes_no_value():
    fpn, other = summarize([result("fpn", 0, 0.3, small=-1), result("c4", 1, 0.2, small=-1)], "fpn")
    assert fpn.mean["AP_S"] is None and fpn.deviation["AP"] is None and fpn.error["AP"] is None
    assert other.difference["AP"] is None  # no seed in common


@pytest.mark.parametrize(
    ("curves", "unfinished"),
    [
        ([(0.10, 0.12), (0.10, 0.13)], False),  # 0.125 * 0.8 = 0.1
        ([(0.10, 0.12), (0.10, 0.14)], True),
        ([(0.04, 0.04)], True),  # below a fifth of the baseline's 0.25
        ([(0.05, 0.05)], False),
        ([(0.2,), (0.1,)], False),  # one evaluation does not show a slope
        ([()], False),
    ],
)
def test_a_variant_that_still_rises_has_no_rank(curves: list[tuple[float, ...]], unfinished: bool):
    def run(name: str, seed: int, values: tuple[float, ...]) -> dict:
        ap = values[-1] if values else 0.3
        return {**result(name, seed, ap), "curve": [{"iteration": k, "AP": ap} for k, ap in enumerate(values)]}

    base = [run("fpn", seed, (0.25, 0.25)) for seed in range(2)]
    results = [*base, *(run("other", seed, values) for seed, values in enumerate(curves))]
    assert [row.unfinished for row in summarize(results, "fpn")] == [False, unfinished]
    verdicts = judge(results, [Expectation("fpn", ("other",), "AP", 0, "a claim")])
    assert all((verdict.outcome == "unfinished") is unfinished for verdict in verdicts) and verdicts


def test_toolboxes_are_not_mixed():
    rows = summarize([result("fpn", 0, 0.3), result("fpn", 0, 0.5, toolbox="detectron2")], "fpn")
    assert [(row.toolbox, row.mean["AP"]) for row in rows] == [("mmdet", 30), ("detectron2", 50)]


@pytest.mark.parametrize("num_levels", range(1, 6))
def test_every_number_of_levels_has_the_same_anchor_sizes(num_levels: int):
    sizes = shared_anchor_sizes(num_levels, 12.0, 3)
    assert len({len(of_level) for of_level in sizes}) == 1 and len(sizes) == num_levels
    whole = {round(size, 6) for of_level in shared_anchor_sizes(5, 12.0, 3) for size in of_level}
    assert {round(size, 6) for of_level in sizes for size in of_level} == whole and len(whole) == 15


def test_more_levels_than_octaves_are_an_error():
    with pytest.raises(ValueError, match="num_levels=6 must be 1 to 5"):
        shared_anchor_sizes(6, 12.0, 3)


@pytest.mark.timm
def test_heads_follow_the_neck():
    extra = {"num_levels": 2, "op": "conv", "source": "input"}
    fpn = {"type": "FPN", "out_channels": 24, "extra_levels": extra}
    assert [tuple(spec) for spec in head_levels(Variant("fpn", CNN, fpn))] == [(24, 2**k) for k in range(3, 8)]
    assert [tuple(spec) for spec in head_levels(Variant("p4", CNN, fpn, levels=(1,)))] == [(24, 16)]
    with pytest.raises(ValueError, match=r"levels=\[7\] must be of 0..4"):
        head_levels(Variant("p4", CNN, fpn, levels=(7,)))


@pytest.mark.timm
@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yml")), ids=lambda path: path.stem)
def test_variants_of_the_shipped_studies_fit_together(path: Path):
    study = read_study(path)
    cells = study.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    for variant in study.variants:
        levels = head_levels(variant)
        assert 1 <= len(levels) <= 5 and len({level.channels for level in levels}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "none"}, "baseline"),
        ({"heads": {"yolo": None}}, "heads"),
        ({"heads": {"retinanet": ("fpm",)}}, "variants of retinanet"),
        ({"toolboxes": {"torchvision": None}}, "toolboxes"),
        ({"toolboxes": {"mmdet": ("fpm",)}}, "variants of mmdet"),
        ({"iterations": 1}, "iterations=1"),
        ({"evaluations": 0}, "evaluations=0"),
        ({"seeds": (-1,)}, "seeds"),
        ({"options": {"torchvision": {}}}, "options"),
        ({"expectations": (Expectation("fpn", ("c4",)),)}, "expectations"),
        ({"expectations": (Expectation("fpn", ("fpn",), "AR"),)}, "expectations"),
    ],
)
def test_wrong_studies_are_refused(change: dict, message: str):
    arguments = {"title": "t", "variants": (Variant("fpn", CNN, {"type": "FPN"}),), "baseline": "fpn", "iterations": 2}
    with pytest.raises(ValueError, match=message):
        Study(**{**arguments, **change})


def test_unknown_keys_and_backbones_are_refused(tmp_path: Path):
    path = tmp_path / "study.yml"
    path.write_text("title: t\nbaseline: a\niterations: 2\nsteps: 3\n")
    with pytest.raises(ValueError, match=r"unknown keys \['steps'\]"):
        read_study(path)
    path.write_text("- title\n")
    with pytest.raises(ValueError, match="must be a mapping of a study's keys"):
        read_study(path)
    path.write_text("title: t\nbaseline: a\niterations: 2\nexpectations: [{variant: a, other: b}]\n")
    with pytest.raises(ValueError, match="expected variant, others, optionally metric"):
        read_study(path)
    path.write_text("title: t\nbaseline: a\niterations: 2\nvariants: {a: {backbone: b, neck: {type: FPN}}}\n")
    with pytest.raises(ValueError, match="backbone 'b' must be one of"):
        read_study(path)


def test_fingerprints_follow_the_content():
    first = fingerprint({"a": 1, "b": Variant("v", CNN, {})})
    assert first == fingerprint({"b": Variant("v", CNN, {}), "a": 1})
    assert first != fingerprint({"a": 2, "b": Variant("v", CNN, {})})


def results_of(variant: str, *values: float) -> list[dict]:
    """One run per value of AP_S, in percent, seed by seed."""
    scores = dict.fromkeys(("AP", "AP50", "AP_M", "AP_L"), 0.5)
    return [
        {
            "cell": {"variant": {"name": variant}, "head": "retinanet", "toolbox": "mmdet", "seed": seed},
            "scores": {"bbox": {**scores, "AP_S": value / 100}},
            "cost": {"macs": 1, "parameters": 1},
        }
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("fpn", "at_least", "found", "outcome"),
    [
        ((20, 21, 22), 6.8, 9.0, "holds"),
        ((20, 21, 22), 9.5, 9.0, "fails"),
        ((10, 41, 12), 6.8, 9.0, "noise"),  # within twice the error of 10
        ((10, 41, 12), 28.0, 9.0, "noise"),
        ((10, 41, 12), 30.0, 9.0, "fails"),
        ((11, 12, 13), 0.0, 0.0, "holds"),
        ((10, 12, 11), 0.0, -1.0, "noise"),
        ((12, 12, 15), 0.0, 1.0, "noise"),
        ((12, 12, 15), -1.0, 1.0, "holds"),
        ((20,), 6.8, 9.0, "one seed"),
    ],
)
def test_expectations_are_compared_with_the_best_of_the_others(
    fpn: tuple[float, ...], at_least: float, found: float, outcome: str
):
    results = [*results_of("fpn", *fpn), *results_of("c4", 11, 12, 13), *results_of("c5", 9, 9, 9)]
    (verdict,) = judge(results, [Expectation("fpn", ("c4", "c5"), "AP_S", at_least)])
    assert verdict.other == "c4" and verdict.seeds == len(fpn)
    assert verdict.difference == pytest.approx(found) and verdict.outcome == outcome


def test_expectations_wait_for_results_of_both_sides():
    assert judge(results_of("fpn", 20), [Expectation("fpn", ("c4",), "AP_S")]) == []


@pytest.mark.parametrize(("second", "within_noise"), [((0.24, 0.28), True), ((0.20, 0.20), False)])
def test_toolboxes_agree_if_their_differences_agree(second: tuple[float, float], within_noise: bool):
    results = [result("fpn", seed, 0.30, toolbox=toolbox) for seed in (0, 1) for toolbox in ("mmdet", "detectron2")]
    results += [result("c4", seed, ap) for seed, ap in enumerate((0.28, 0.26))]
    results += [result("c4", seed, ap, toolbox="detectron2") for seed, ap in enumerate(second)]
    results += [result("c5", seed, 0.1) for seed in (0, 1)]  # not in the other
    results += [result("p2", seed, 0.1, toolbox=toolbox) for seed, toolbox in ((0, "mmdet"), (0, "detectron2"))]
    (found,) = toolbox_gaps(summarize(results, "fpn"), "fpn", ["AP"])
    assert (found.variant, found.toolboxes) == ("c4", ("mmdet", "detectron2"))
    assert found.differences == pytest.approx((-3, 50 * sum(second) - 30))
    assert found.gap == pytest.approx(27 - 50 * sum(second))
    assert found.error == pytest.approx(math.hypot(1, 50 * (second[1] - second[0])))
    assert found.within_noise is within_noise
