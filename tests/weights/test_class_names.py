"""Class names travel with the weights in every format, and no toolbox's own loader minds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpn_plugins.weights import read_checkpoint, read_class_names, write_checkpoint

WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("classes", [(), ("cup",), ("cup", "Straße")])
def test_written_and_read(suffix: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    path = write_checkpoint(WEIGHTS, tmp_path / f"x{suffix}", "model", classes)
    assert read_class_names(path) == classes
    found = read_checkpoint(path)
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[key], value) for key, value in WEIGHTS.items())


@pytest.mark.parametrize(
    ("meta", "classes"),
    [
        ({"dataset_meta": {"classes": ("a", "b"), "palette": None}}, ("a", "b")),
        ({"dataset_meta": {"CLASSES": ["a"]}}, ("a",)),
        ({"dataset_meta": {"classes": ("a", "sky"), "thing_classes": ("a",), "stuff_classes": ("sky",)}}, ("a",)),
        ({"CLASSES": ("a", "b")}, ("a", "b")),
        ({"dataset_meta": {"classes": "a"}}, ()),
        ({"dataset_meta": {"classes": [1, 2]}}, ()),
        ({"dataset_meta": 3}, ()),
        (3, ()),
    ],
)
def test_places_in_the_files_of_others(meta: object, classes: tuple[str, ...], tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "meta": meta}, tmp_path / "x.pth")
    assert read_class_names(tmp_path / "x.pth") == classes


@pytest.mark.detectron2
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_detectron2_ignores_them(suffix: str, tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    path = write_checkpoint(WEIGHTS, tmp_path / f"x{suffix}", "model", ("cup", "fork"))
    layer = torch.nn.Linear(3, 2)
    DetectionCheckpointer(layer).load(str(path))
    assert all(torch.equal(layer.state_dict()[key], value) for key, value in WEIGHTS.items())


@pytest.mark.mmdet
def test_mmengine_reads_them(tmp_path: Path) -> None:
    from mmengine.runner.checkpoint import CheckpointLoader

    path = write_checkpoint(WEIGHTS, tmp_path / "x.pth", "state_dict", ("cup", "fork"))
    content = CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    assert content["meta"]["dataset_meta"]["classes"] == ("cup", "fork")
