"""What tests of both toolboxes together share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo_data(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The synthetic set for the demo's configs, which are named from the root, and the command lines' modules."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.chdir(ROOT)
