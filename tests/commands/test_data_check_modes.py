"""What ``FPN_PLUGINS_CHECK_DATA`` makes of the check before training and evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from coco_files import good_content, write_json

from fpn_plugins.commands.common import run_data_check
from fpn_plugins.data import SAMPLE, DataCheck, check_data, coco_set


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the check of a faulty set in a mode; return the numbers of headers it was asked to read."""
    content = good_content()
    del content["annotations"][0]["iscrowd"]
    source = coco_set(write_json(tmp_path / "set.json", content), None)

    def run(mode: str) -> list[int | None]:
        asked: list[int | None] = []

        def check(limit: int | None) -> DataCheck:
            asked.append(limit)
            return check_data([source], limit=limit)

        monkeypatch.setenv("FPN_PLUGINS_CHECK_DATA", mode)
        run_data_check(check)
        return asked

    return run


def test_modes(limits, capsys: pytest.CaptureFixture[str]) -> None:
    assert limits("0") == []
    assert limits("warn") == [SAMPLE]
    assert "warning: ann_file=" in capsys.readouterr().err
    for mode in ("1", "", "all"):
        with pytest.raises(ValueError, match="without iscrowd.*\n.*FPN_PLUGINS_CHECK_DATA=warn"):
            limits(mode)
    with pytest.raises(ValueError, match="FPN_PLUGINS_CHECK_DATA='yes' is unknown"):
        limits("yes")


def test_only_the_first_process_of_a_machine_checks(limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert limits("1") == []
