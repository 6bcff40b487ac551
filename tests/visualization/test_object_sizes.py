"""Plots of object sizes and of the levels' weights are written whole, and leave the caller's figures alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fpn_plugins.data import find_split, level_weight_report, size_statistics
from fpn_plugins.visualization import plot_level_weights, plot_size_statistics


@pytest.fixture
def ann_file(tiny_coco: Path) -> Path:
    return find_split(tiny_coco, "train").ann_file


@pytest.fixture
def stats(ann_file: Path) -> dict[str, Any]:
    return size_statistics(ann_file)


def test_names_of_files_are_no_formulas(stats: dict[str, Any], tmp_path: Path) -> None:
    assert plot_size_statistics({**stats, "ann_file": "a$\\frac$b_{.json"}, tmp_path / "sizes.png").is_file()


def test_the_plot_shows_the_statistics(stats: dict[str, Any], tmp_path: Path) -> None:
    path = plot_size_statistics(stats, tmp_path / "sizes.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > image.height
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert [entry.name for entry in tmp_path.glob("*.png")] == ["sizes.png"]


def test_statistics_that_cannot_be_plotted_are_refused(stats: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix '.pdf'; expected '.png'"):
        plot_size_statistics(stats, tmp_path / "sizes.pdf")
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        plot_size_statistics(stats, tmp_path / "nowhere" / "sizes.png")
    with pytest.raises(ValueError, match="hold no object; nothing to draw"):
        plot_size_statistics({**stats, "objects": 0}, tmp_path / "sizes.png")


def test_pyplot_keeps_its_figures(stats: dict[str, Any], tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plot_size_statistics(stats, tmp_path / "sizes.png")
    assert pyplot.get_fignums() == before


def test_the_plot_of_weights(ann_file: Path, tmp_path: Path) -> None:
    report = level_weight_report(ann_file)
    with Image.open(plot_level_weights(report, tmp_path / "weights.png")) as image:
        assert image.size == (1200, 480) and len(image.getcolors(10**6)) > 10
    with pytest.raises(ValueError, match=r"expected '\.png'"):
        plot_level_weights(report, tmp_path / "weights.pdf")
