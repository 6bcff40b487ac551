"""The table of exported detectors: what is compared, and how its page shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"


def test_the_page_shows_each_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import engines

    rows = {
        "mask_rcnn, mmdet, openvino": {"per_picture": 40.2, "share": 0.9991, "mask_iou": 1, "ap": 0.0, "time": 0.512},
        "panoptic_fpn, mmdet, onnxruntime": {"pixels": 0.9999, "time": 0.7},
    }
    about = {"date": "d", "command": "c", "processor": "p", "threads": 1, "versions": {"torch": "2"}}
    text = engines.page({**about, "photos": 20, "sizes": engines.SIZES, "rows": rows})
    assert "| mask_rcnn | mmdet | openvino | 40 | 99.91 % | 1.0000 | 0.0000 | - | 0.51 |" in text
    assert "| panoptic_fpn | mmdet | onnxruntime | - | - | - | - | 99.99 % | 0.70 |" in text


def test_classes_of_pixels_tell_things_from_stuff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import engines

    from fpn_plugins.inference import PanopticSegments, Segment

    found = PanopticSegments(torch.tensor([[0, 1, 2]]), [Segment(2, 0, True), Segment(1, 0, False)])
    assert engines.classes(found).tolist() == [[0, -1, 1]]


def test_operators_are_looked_up_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnx import TensorProto, helper

    monkeypatch.syspath_prepend(str(FOLDER))
    import onnx_operators

    table = json.loads(onnx_operators.TABLE.read_text())
    assert {"NonMaxSuppression", "RoiAlign", "TopK"} <= set(table["supported"]) and np.all(table["source"])
    for kind, code in (("Relu", None), ("Unique", 1)):
        node = helper.make_node(kind, ["x"], ["y"])
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        file = tmp_path / f"{kind}.onnx"
        file.write_bytes(helper.make_model(helper.make_graph([node], "g", value[:1], value[1:])).SerializeToString())
        monkeypatch.setattr(sys, "argv", ["onnx_operators.py", str(file)])
        if code is None:
            onnx_operators.main()
            assert "Relu 1" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit) as stop:
                onnx_operators.main()
            assert stop.value.code == code and "Unique" in capsys.readouterr().err
