"""Plots have one style: few series, colors that everyone can tell apart, directions, units, no crossing texts."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import plots
import pytest
from matplotlib.colors import to_rgb

from fpn_plugins.analysis import AnchorReach
from fpn_plugins.analysis.report import ComponentCost, CostReport
from fpn_plugins.data import find_split, level_weight_report, size_statistics
from fpn_plugins.visualization import draw_costs, plot_anchor_reach, plot_level_weights, plot_size_statistics
from fpn_plugins.visualization.figures import COLORS, axis_label, legend_below, plot, series_color

ROOT = Path(__file__).resolve().parents[2]
# each module that arranges axes, and the test that checks its plots (no test: pictures, which have no series)
PLOTS = {
    "fpn_plugins/visualization/anchors.py": "visualization/test_style.py",
    "fpn_plugins/visualization/costs.py": "visualization/test_style.py",
    "fpn_plugins/visualization/object_sizes.py": "visualization/test_style.py",
    "tools/benchmarks/attention.py": "tools/test_published.py",
    "tools/benchmarks/compiled_detectors_page.py": "tools/test_published.py",
    "tools/benchmarks/detectors.py": "tools/test_published.py",
    "tools/benchmarks/growth.py": "tools/test_published.py",
    "tools/benchmarks/neck_compiled.py": "tools/test_published.py",
    "tools/benchmarks/neck_comparison.py": "tools/test_published.py",
    "tools/benchmarks/necks.py": "tools/test_published.py",
    "tools/benchmarks/revisions.py": "tools/test_published.py",
    "tools/studies/ablations/study_plots.py": "tools/test_study_pages.py",
    "tools/studies/ablations/study_ranking.py": "tools/test_study_ranking.py",
    "tools/studies/recipes/recipe_page.py": "tools/test_published.py",
    "tools/studies/precision/evaluate.py": "tools/test_published.py",
    "fpn_plugins/visualization/detections.py": "",
    "fpn_plugins/visualization/pyramid.py": "",
    "fpn_plugins/watching/pictures.py": "",
    "tools/docs/draw_topology.py": "",
}


def components(number: int, scale: float) -> list[ComponentCost]:
    parts = ("backbone", "neck", "head")
    return [
        ComponentCost(parts[i % 3], f"component {i}", int(1e6 * scale * (i + 1)), int(1e9), 2**20)
        for i in range(number)
    ]


def report(title: str, number: int, scale: float = 1.0) -> CostReport:
    return CostReport(title, (800, 1344), tuple(components(number, scale)))


def test_every_module_that_plots_is_checked() -> None:
    sources = {
        p.relative_to(ROOT).as_posix(): p.read_text()
        for f in ("fpn_plugins", "tools")
        for p in ROOT.glob(f"{f}/**/*.py")
    }
    found = {name for name, text in sources.items() if ".subplots(" in text}
    assert found == set(PLOTS)
    assert all((ROOT / "tests" / test).is_file() for test in PLOTS.values() if test)
    styled = {name for name, test in PLOTS.items() if test}
    assert not [
        name for name in styled if re.search(r"matplotlib\.figure|savefig|colormaps|tab:|fontsize", sources[name])
    ]


def test_what_anchors_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = np.geomspace([8, 12], [200, 150], 40).T
    anchors = {
        name: ([[size * 2**k for k in range(3)]] * 2, (0.5, 1.0)) for name, size in (("fitted", 9), ("stock", 32))
    }
    found = {"small": AnchorReach(30, 0.7, 1.0, 4.0), "large": AnchorReach(10, 0.4, 0.2, 1.0)}
    with plots.recorded(monkeypatch) as figures:
        path = plot_anchor_reach(
            boxes, anchors, {"fitted": found, "stock": {"small": found["large"]}}, tmp_path / "a.png"
        )
    assert path.stat().st_size > 1000
    assert plots.faults(figures[0], directed=False) == []
    assert {text.get_text() for text in figures[0].legends[0].get_texts()} == {
        "objects",
        "fitted anchors",
        "stock anchors",
    }


def test_the_cost_of_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [report("mask_rcnn_r50_fpn_12e", 14), report("mask_rcnn_swin_t_fpn_12e", 11, 2.0)]
    with plots.recorded(monkeypatch) as figures:
        draw_costs(reports, tmp_path / "many.png", "Cost of two detectors, 800 x 1344 pixels")
        draw_costs(reports[:1], tmp_path / "few.png")
    assert [plots.faults(figure) for figure in figures] == [[], []]
    (many, few) = (figure.legends[0].get_texts() for figure in figures)
    assert len(many) == len(few) == 8 and many[-1].get_text() == "other components"
    # nothing is lost: bars are as long as the totals
    widths = [sum(bar.get_width() for bar in axis.patches) for axis in figures[0].axes]
    assert widths == pytest.approx([(105 + 2 * 66), 25, 25])


def test_object_sizes_and_levels(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann_file = find_split(tiny_coco, "train").ann_file
    with plots.recorded(monkeypatch) as figures:
        plot_size_statistics(size_statistics(ann_file), tmp_path / "sizes.png")
        plot_level_weights(level_weight_report(ann_file), tmp_path / "levels.png")
    assert [plots.faults(figure, directed=False) for figure in figures] == [[], []]


# what is left of linear RGB without the cones of one kind (Machado, Oliveira and Fernandes 2009)
VISION: dict[str, Any] = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def lab(color: str, vision: str) -> np.ndarray:
    """CIE Lab of a color as seen by someone."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(matrix @ seen / (0.9505, 1, 1.089), 0.00886))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colors_are_distinct_to_everyone(vision: str) -> None:
    seen = {color: lab(color, vision) for color in ("#ffffff", *COLORS)}
    apart = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(seen, 2)}
    assert min(apart.values()) > 15, min(apart, key=lambda pair: apart[pair])


def test_a_ninth_series_is_refused() -> None:
    assert len({series_color(index) for index in range(8)}) == 8
    with pytest.raises(ValueError, match="index=8: a plot shows at most 8 series; choose some"):
        series_color(8)


def draw_badly(path: Path, kind: str) -> None:
    with plot(path, 3) as figure:
        axis = figure.subplots()
        for index in range(9 if kind == "series" else 2):
            color = COLORS[0] if kind == "colors" else f"C{index}"
            axis.plot([1, 2], [index, 1], color=color, label=f"series {index}")
        if kind != "no label":
            axis.set_ylabel("time, ms" if kind == "direction" else axis_label("time", "ms", "lower"))
        if kind == "crossing":
            axis.text(1.5, 0.5, "one text")
            axis.text(1.51, 0.5, "other text")
        if kind == "small":
            axis.text(1.5, 0.5, "small", fontsize=5)
        legend_below(figure)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("series", "9 series"),
        ("colors", "are not distinct"),
        ("no label", "have no label"),
        ("direction", "do not say whether lower or higher is better"),
        ("crossing", "'one text' and 'other text' cross"),
        ("small", "'small' has 6.5 pixels at the page's width"),
        ("nothing", ""),
    ],
)
def test_the_check_sees_faults(kind: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with plots.recorded(monkeypatch) as figures:
        draw_badly(tmp_path / "bad.png", kind)
    found = plots.faults(figures[0])
    assert len(found) == bool(fault) and all(fault in text for text in found), found
