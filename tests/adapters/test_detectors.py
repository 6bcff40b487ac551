"""The detector protocol: both hosts build, load, detect and compute losses through the same functions."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from payload import Payload

from fpn_plugins.adapters.hosts import HOSTS, Host, build_detector, class_names, host_of, toolbox_of
from fpn_plugins.analysis import spread_predictions
from fpn_plugins.inference import AnnotatedImage

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {"mmdet": "configs/mmdet/demo_mask_rcnn.py", "detectron2": "configs/detectron2/demo_mask_rcnn.py"}
each_host = pytest.mark.parametrize("name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in HOSTS])
pytestmark = pytest.mark.timm


@pytest.fixture(autouse=True)
def demo_data(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the demo's configs read."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


def annotated_image() -> AnnotatedImage:
    masks = np.zeros((1, 96, 128), dtype=bool)
    masks[0, 20:60, 10:70] = True
    pixels = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    return AnnotatedImage(pixels, torch.tensor([[10.0, 20.0, 70.0, 60.0]]), torch.tensor([2]), masks)


@each_host
def test_each_host_has_every_function_of_the_protocol(name: str):
    host = host_of(str(ROOT / CONFIGS[name]))
    for function, wanted in inspect.getmembers(Host, inspect.isfunction):
        if not function.startswith("_"):
            names = list(inspect.signature(wanted).parameters)[1:]
            assert list(inspect.signature(getattr(host, function)).parameters) == names, function


@each_host
def test_builds_detects_and_trains(name: str):
    config = str(ROOT / CONFIGS[name])
    host, image = host_of(config), annotated_image()
    detector = build_detector(config)
    total, named = host.losses(detector.train(), [image])
    total.backward()
    assert len(named) == 5 and abs(sum(named.values()) - total.item()) < 1e-4 * total.item()
    detector.eval()
    with torch.no_grad():
        spread_predictions(detector, lambda: host.detect(detector, [image]))
        one, other = host.detect(detector, [image, image])
    assert len(one.scores) > 5 and torch.allclose(one.boxes, other.boxes, atol=1e-2)
    assert one.masks is not None and one.masks.shape[1:] == (96, 128)


@each_host
def test_loads_all_weights_or_none(name: str, tmp_path: Path):
    config = str(ROOT / CONFIGS[name])
    host = host_of(config)
    detector = host.build(config)
    file = tmp_path / "detector.pth"
    torch.save({"model": detector.state_dict()}, file)
    loaded = host.load(config, str(file))
    assert not loaded.training
    assert all(value.equal(detector.state_dict()[key]) for key, value in loaded.state_dict().items())
    torch.save({"model": {k: v for k, v in detector.state_dict().items() if "neck" not in k}}, file)
    with pytest.raises(ValueError, match="does not fit .*: .* parameters missing"):
        host.load(config, str(file))


@each_host
def test_loading_executes_nothing(name: str, tmp_path: Path):
    file = tmp_path / "hostile.pth"
    torch.save({"state_dict": {}, "meta": Payload(tmp_path / "executed")}, file)
    config = str(ROOT / CONFIGS[name])
    with pytest.raises(ValueError):
        host_of(config).load(config, str(file))
    assert not (tmp_path / "executed").exists()


@each_host
def test_names_classes_and_refuses_another_number(name: str, tiny_coco: Path, tmp_path: Path):
    config = str(ROOT / CONFIGS[name])
    detector = host_of(config).build(config)
    annotations = tiny_coco / "annotations" / "instances_val2017.json"
    categories = json.loads(annotations.read_text())["categories"]
    assert class_names(config, detector, annotations) == [c["name"] for c in categories]
    assert class_names(config, detector) == [str(index) for index in range(len(categories))]
    fewer = tmp_path / "fewer.json"
    fewer.write_text('{"categories": [{"id": 1, "name": "disk"}]}')
    with pytest.raises(ValueError, match="1 categories, the detector "):
        class_names(config, detector, fewer)


def test_an_unknown_config_or_toolbox_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"config 'no\.py' is not a file"):
        toolbox_of("no.py")
    with pytest.raises(ValueError, match="toolbox 'mmcls' is unknown, choose one of"):
        host_of("mmcls::resnet")
