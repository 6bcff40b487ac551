"""Ways to find small objects: what is measured, in whose pixels, and how the page shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fpn_plugins.adapters.detectors import LoadedDetector
from fpn_plugins.inference import Detections, ImagePredictor, ResizeRule

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"
pytestmark = [getattr(pytest.mark, host) for host in ("mmdet", "detectron2", "timm", "torchvision")]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import small_objects

    return small_objects


class Bright(ImagePredictor):
    """Finds the one bright rectangle if it is at least 10 px wide after resizing."""

    def __call__(self, image: np.ndarray) -> Detections:
        resized = self.resized(image)
        rows, columns = np.nonzero(resized[..., 0] > 127)
        wide = len(rows) > 0 and columns.max() - columns.min() >= 9
        scale = image.shape[0] / resized.shape[0]
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if wide else []
        boxes = torch.tensor(box, dtype=torch.float32).reshape(-1, 4) * scale
        return Detections(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64))


def write_set(folder: Path) -> None:
    """Ten pictures of 200 x 300 px with an object of 16 x 12 px each, which is 8 x 6 px at half the size.

    A crowd does not count, nor does the single small object of another class, which no detector finds.
    """
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:52, 40:56] = 255
    for name in ("annotations", "val2017", "train2017"):
        (folder / name).mkdir(parents=True)
    one = {"category_id": 1, "bbox": [40, 40, 16, 12], "area": 192, "iscrowd": 0}
    annotations = [{**one, "id": number, "image_id": number} for number in range(1, 11)]
    annotations += [{**one, "id": 11, "image_id": 1, "bbox": [200, 100, 60, 60], "area": 3600, "iscrowd": 1}]
    annotations += [{**one, "id": 12, "image_id": 1, "bbox": [100, 100, 16, 12], "category_id": 2}]
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 300, "height": 200} for n in range(1, 11)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "speck"}, {"id": 2, "name": "rare"}],
    }
    for entry in truth["images"]:
        Image.fromarray(image).save(folder / "val2017" / entry["file_name"])
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))


def test_larger_images_and_slices_find_what_is_small(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_set(tmp_path / "set")
    predict = Bright(torch.nn.Identity(), rule=ResizeRule(100, 150))
    detector = LoadedDetector(None, predict, {1: "speck", 2: "rare"}, "mmdet")
    monkeypatch.setattr(tool, "load_detector", lambda *args, **options: detector)
    command = ["small_objects.py", "c.py", "w.pth", "--root", str(tmp_path / "set"), "--name", "specks"]
    monkeypatch.setattr(sys, "argv", [*command, "--slice", "100", "--out", str(tmp_path / "r.json")])
    tool.main()
    table = json.loads((tmp_path / "r.json").read_text())["tables"]["specks"]
    assert table["images"] == 10 and table["small"] == 10
    found = {way: row["scores"]["bbox"]["AP_S"] for way, row in table["rows"].items()}
    assert found["as trained"] == found["TTA: flip"] == 0
    assert min(found["images x 2"], found["TTA: x 1 and x 1.5"], found["slices of 100 px"]) > 0.5
    monkeypatch.setattr(sys, "argv", [*command, "--trained", "P2", "p.py", "p.pth", "--out", str(tmp_path / "r.json")])
    tool.main()
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report["tables"]["specks"]["rows"]) == {*found, "P2"}
    text = tool.page(report)
    assert "## specks" in text and "| P2 | 0.0 |" in text and "P2 (a neck" not in text and "image pyramid (" in text
    assert (
        "| as trained | 0.0 | 0.0 | 0.0 | - | - | 1.00 |" in text and "Most for small objects: images x 1.5, +" in text
    )
