"""Each backbone and neck inside a RetinaNet, written as ONNX and run in onnxruntime.

A neck and a backbone share a detector, so that there are as many exports as necks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from registered import BACKBONE_HOSTS, FEWER, NECK_NAMES, build, in_specs
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins import BACKBONES, FeatureSpec
from fpn_plugins.analysis import agreement, spread_predictions
from fpn_plugins.export import (
    BoxCoder,
    DenseDetector,
    ExportableDetector,
    ExportSettings,
    GridAnchors,
    PixelInput,
    SelectionRule,
    describe,
    export_detector,
)
from fpn_plugins.inference import Detections, ResizeRule
from fpn_plugins.inference.engines import open_session

CLASSES = 2
SIZE = (75, 133)  # no size is traced, and no stride divides it
PAIRS = [
    pytest.param(neck, backbone, marks=BACKBONE_HOSTS.get(backbone or "", ()), id=f"{neck}-{backbone or 'pixels'}")
    for neck, backbone in zip_longest(NECK_NAMES, sorted(BACKBONES))
]


class Joined(nn.Module):
    """Maps of a backbone, by a convolution each, in the channels of a neck; of strides that it lacks, pixels."""

    def __init__(self, neck: str, backbone: str | None) -> None:
        super().__init__()
        self.neck = build(neck, **FEWER.get(neck, {}))
        self.backbone = build(backbone, **FEWER.get(backbone, {})) if backbone else None
        found = self.backbone.feature_specs if self.backbone is not None else ()
        strides = [spec.stride for spec in found]
        self.sources = [strides.index(s.stride) if s.stride in strides else None for s in in_specs(neck)]
        self.convs = nn.ModuleList(
            nn.Conv2d(3, wanted.channels, wanted.stride, wanted.stride)
            if source is None
            else nn.Conv2d(found[source].channels, wanted.channels, 1)
            for source, wanted in zip(self.sources, in_specs(neck), strict=True)
        )
        self.specs: tuple[FeatureSpec, ...] = self.neck.out_specs(in_specs(neck))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [] if self.backbone is None else self.backbone(images)
        sources = [images if source is None else maps[source] for source in self.sources]
        return list(self.neck([conv(x) for conv, x in zip(self.convs, sources, strict=True)]))


class Head(nn.Module):
    """Shortest head of a RetinaNet: two convolutions on the last map, to which the means of the others are added."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        *others, last = channels
        self.context = nn.ModuleList(nn.Conv2d(c, last, 1) for c in others)
        self.retina_cls, self.retina_reg = nn.Conv2d(last, CLASSES, 1), nn.Conv2d(last, 4, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        *others, x = maps
        for conv, other in zip(self.context, others, strict=True):
            x = x + conv(other.mean((2, 3), keepdim=True))
        return [self.retina_cls(x)], [self.retina_reg(x)]


def retinanet(pyramid: Joined) -> ExportableDetector:
    """Build a RetinaNet that finds objects on the maps of a pyramid."""
    channels, stride = [spec.channels for spec in pyramid.specs], pyramid.specs[-1].stride
    sides = torch.tensor([[-1.0, -0.5, 1, 0.5]]) * stride
    rule = SelectionRule(score_threshold=0.1, iou_threshold=0.5, limit=50)
    levels = range(len(channels))
    objects = DenseDetector(
        Head(channels), [GridAnchors(sides, (stride, stride))], BoxCoder(), CLASSES, 30, rule, levels
    )
    pixels = PixelInput([127.5] * 3, [64.0] * 3, "RGB", divisor=32)
    detector = ExportableDetector(pixels, pyramid, objects, ExportSettings("mmdet", "retinanet", CLASSES, 0.1, 50))
    with torch.no_grad():
        spread_predictions(detector.eval(), lambda: detector(images((128, 160))))
    return detector


def images(size: tuple[int, int]) -> Tensor:
    """Return one coarse picture."""
    return nn.functional.interpolate(torch.rand(1, 3, 12, 20), size=size, mode="bilinear") * 255


@pytest.mark.parametrize(("neck", "backbone"), PAIRS)
@EXPORTS
def test_an_exported_detector_finds_the_same(
    neck: str, backbone: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The file takes another size and another number of images than the traced ones."""
    monkeypatch.setattr(torch.onnx, "export", partial(torch.onnx.export, optimize=False))  # a third of the time
    detector, pixels = retinanet(Joined(neck, backbone)), images(SIZE)
    metadata = describe(detector, dict(enumerate("ab")), ResizeRule(64, 128))
    outputs = open_session(export_detector(detector, tmp_path / "detector.onnx", metadata))(pixels.numpy())
    with torch.no_grad():
        expected = detector(pixels)
    first, second = (
        Detections(found["boxes"], found["scores"], found["labels"])
        for found in (expected, {name: torch.from_numpy(value) for name, value in outputs.items()})
    )
    agreed = agreement([(0, first, second)])
    assert agreed.total >= 1 and agreed.share == 1, agreed
