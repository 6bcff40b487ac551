"""Exportable detectors recorded once equal eager at other sizes and numbers of images, in PyTorch and onnxruntime.

A plain pyramid takes the place of backbone and neck, which `tests/contracts/test_export.py` exports one by one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from export_detectors import CHANNELS, build_detectron2, build_mmdet, host_module, random_images
from export_stand_in import description
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins.analysis import spread_predictions
from fpn_plugins.export.recording import exported_program, onnx_model

# the first is traced; others round differently at every stride, or have fewer anchors than candidates
SIZES = [(2, (193, 259)), (1, (161, 310)), (3, (200, 139))]
BENCHMARKS = Path(__file__).resolve().parents[2] / "tools/benchmarks"
STANDARD = {"", "ai.onnx"}
CLASSIFIERS = ("retina_cls", "cls_score")


class Patches(nn.Module):
    """Maps of the strides given, one convolution each."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, CHANNELS, stride, stride) for stride in strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [conv(images) for conv in self.convs]


def plain(toolbox: str, kind: str, masks: str = "probabilities") -> Any:
    """Exportable detector of a kind that finds something, on a plain pyramid."""
    torch.manual_seed(0)
    detector = build_mmdet(kind) if toolbox == "mmdet" else build_detectron2(kind)
    exportable = host_module(toolbox).exportable(detector, masks=masks)
    exportable.pyramid = Patches((8, 16, 32, 64, 128) if kind == "retinanet" else (4, 8, 16, 32, 64))
    exportable.pixels.divisor = 128
    with torch.no_grad():
        spread_predictions(exportable, lambda: exportable(random_images(*SIZES[0])))
        if kind == "retinanet":  # hundreds of scores near 1 would differ by rounding alone
            next(layer for name, layer in exportable.named_modules() if name.endswith(CLASSIFIERS)).bias -= 4
    return exportable


def close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert that two detections are the same objects."""
    assert list(got) == list(expected)
    for name, value in expected.items():
        if value.dtype == torch.bool:  # a probability can round to the other side of the threshold
            both, either = (got[name] & value).sum((1, 2)), (got[name] | value).sum((1, 2))
            assert bool((both >= 0.999 * either).all())
        else:
            torch.testing.assert_close(got[name], value, rtol=0, atol=1e-2 if name == "boxes" else 1e-4)


@EXPORTS
@pytest.mark.parametrize(
    ("toolbox", "kind", "masks"),
    [
        pytest.param("mmdet", "retinanet", "probabilities", marks=pytest.mark.mmdet),
        pytest.param("mmdet", "cascade_mask_rcnn", "pasted", marks=pytest.mark.mmdet),
        pytest.param("detectron2", "panoptic_fpn", "probabilities", marks=pytest.mark.detectron2),
    ],
)
def test_recorded_once_equals_eager(toolbox: str, kind: str, masks: str, monkeypatch: pytest.MonkeyPatch):
    """PyTorch's program, and ONNX of standard operators alone, all of them in TensorRT's table."""
    import onnxruntime

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import onnx_operators

    exportable = plain(toolbox, kind, masks)
    images, names = random_images(*SIZES[0]), list(exportable.output_names)
    with torch.no_grad():
        recorded = exported_program(exportable, images).module()
        onnx = onnx_model(exportable, images, description())
    assert {node.domain for node in onnx.graph.node} <= STANDARD
    opset = onnx.opset_import[0].version
    assert opset >= 17
    table = json.loads(onnx_operators.TABLE.read_text())["supported"]
    assert onnx_operators.obstacles(onnx, table, opset) == set()
    session = onnxruntime.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    for number, size in SIZES:
        images = random_images(number, size, seed=number)
        with torch.no_grad():
            expected = exportable(images)
            close(recorded(images), expected)
        assert len(expected["scores"]) >= 10 * number
        found = session.run(names, {session.get_inputs()[0].name: images.numpy()})
        close(dict(zip(names, map(torch.from_numpy, found), strict=True)), expected)


@pytest.mark.parametrize(
    ("toolbox", "kind"),
    [
        pytest.param("mmdet", "mask_rcnn", marks=pytest.mark.mmdet),
        pytest.param("detectron2", "retinanet", marks=pytest.mark.detectron2),
    ],
)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_traces_to_the_same(toolbox: str, kind: str):
    """Sizes and numbers of images stay open, also in TorchScript."""
    exportable = plain(toolbox, kind)
    with torch.no_grad():
        traced = torch.jit.trace(exportable, random_images(*SIZES[0]), strict=False, check_trace=False)
        for number, size in SIZES:
            images = random_images(number, size, seed=number)
            close(traced(images), exportable(images))
