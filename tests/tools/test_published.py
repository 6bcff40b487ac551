"""Published pages and pictures are what their scripts make of the committed data, in the style of all plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import plots
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DATA = {path.stem for path in ROOT.glob("tools/*/data/*.json")} | {"precision", "recipes"}
pytestmark = [getattr(pytest.mark, host) for host in ("mmdet", "detectron2", "torchvision", "timm")]


@pytest.fixture
def published(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/published")


def test_every_measurement_has_a_page(published: ModuleType) -> None:
    assert set(published.PUBLISHED) == DATA
    assert not list(DOCS.rglob("*.json"))


@pytest.mark.parametrize("name", sorted(DATA))
def test_the_page_and_its_picture_are_current(
    published: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    remedy = f"run python tools/benchmarks/published.py --out docs {name}"
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == published.page_of(name), remedy
    if published.PUBLISHED[name].draw is None:
        return
    with plots.recorded(monkeypatch) as figures:
        published.draw_picture(name, tmp_path / "new.png")
    (figure,) = figures
    assert plots.faults(figure) == []
    assert difference(DOCS / f"{name}.png", tmp_path / "new.png") < 0.02, remedy


def difference(one: Path, other: Path) -> float:
    """Share of the pixels of two pictures that differ clearly; 1 if their shapes differ."""
    first, second = (np.asarray(Image.open(path).convert("L"), dtype=int) for path in (one, other))
    return 1.0 if first.shape != second.shape else float((abs(first - second) > 32).mean())
