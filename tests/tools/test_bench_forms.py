"""Measurements that justify choices of the package, at sizes too small to say anything about speed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_forms_of_attention(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    forms = script("benchmarks/attention_forms")
    monkeypatch.setattr(forms, "SWIN", forms.SWIN._replace(batch=4))
    monkeypatch.setattr(forms, "AXIAL", [case._replace(batch=1, heads=1) for case in forms.AXIAL[:3]])
    monkeypatch.setattr(sys, "argv", ["attention_forms.py", "--repeats", "1", "--out", str(tmp_path / "forms")])
    forms.main()
    rows = json.loads((tmp_path / "forms.json").read_text())["rows"]
    assert [(row["case"][:7], row["chosen"]) for row in rows[::2]] == [
        *[("7 x 7 w", "masked")] * 3,
        ("14 x 14", "masked"),
        ("56 x 56", "masked"),
    ]
    assert [row["chosen"] for row in rows[1::2]] == ["plain"] * 3 + ["blocked"] * 2
    assert all(set(row["ms"]) == ({"plain", "masked"} if "bias" in row["case"] else set(forms.FORMS)) for row in rows)
    assert (tmp_path / "forms.md").read_text().count("**") == 2 * len(rows)


def test_choices(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    choices = script("benchmarks/choices")
    monkeypatch.setattr(sys, "argv", ["choices.py", "--repeats", "1"])
    monkeypatch.setattr(choices, "NECK_SIZE", (64, 64))
    monkeypatch.setattr(choices, "MVIT_SIZES", [(32, 64)])
    choices.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert "by `choices.py" in first
    names = [*(f"{neck}, 64 x 64, inference" for neck in ("BiFPN", "NASFPN", "BFP")), "MViTv2-T, 32 x 64, inference"]
    assert [line.split(":")[0] for line in lines] == [*names, "MViTv2-T, 32 x 64, training"]
    assert all(float(line.split(": ")[1]) > 0 for line in lines)
