"""Each backbone and neck inside a RetinaNet, written as ONNX and run in onnxruntime.

Most of the time of an export is the detector's, not the pyramid's: several pyramids share a detector. Where it fails,
each is exported by itself, to name those that fail.
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

from fpn_plugins import BACKBONES
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

Pair = tuple[str, str | None]  # neck and backbone

CLASSES = 2
SIZE = (130, 200)  # not the traced one, and no stride divides it
NUM_GROUPS = 5  # of pyramids; the first one has the backbones that need timm
PAIRS = list(
    zip_longest(NECK_NAMES, sorted(BACKBONES, key=lambda name: (name not in BACKBONE_HOSTS, name)), fillvalue=None)
)
NUM_HOSTED = len(BACKBONE_HOSTS.keys() & BACKBONES.keys())
GROUPS = [
    pytest.param(PAIRS[:NUM_HOSTED], marks=pytest.mark.timm, id="timm"),
    *(pytest.param(PAIRS[NUM_HOSTED + i :: NUM_GROUPS - 1], id=str(i)) for i in range(NUM_GROUPS - 1)),
]


class Joined(nn.Module):
    """A neck on the maps of a backbone, brought to its channels; of strides that the backbone lacks, on pixels."""

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

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [] if self.backbone is None else self.backbone(images)
        sources = [images if source is None else maps[source] for source in self.sources]
        return tuple(self.neck([conv(x) for conv, x in zip(self.convs, sources, strict=True)]))


class Pyramids(nn.Module):
    """Maps of several pyramids, one after the other."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.pyramids = nn.ModuleList(Joined(*pair) for pair in pairs)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [level for pyramid in self.pyramids for level in pyramid(images)]


class Head(nn.Module):
    """Predictions on the last map of a pyramid, to which the means of the others are added."""

    def __init__(self, neck: str, pyramid: Joined) -> None:
        super().__init__()
        *others, last = [spec.channels for spec in pyramid.neck.out_specs(in_specs(neck))]
        self.context = nn.ModuleList(nn.Conv2d(c, last, 1) for c in others)
        self.retina_cls, self.retina_reg = nn.Conv2d(last, CLASSES, 1), nn.Conv2d(last, 4, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        *others, x = maps
        for conv, other in zip(self.context, others, strict=True):
            x = x + conv(other.mean((2, 3), keepdim=True))
        return self.retina_cls(x).flatten(2)[:, :, None], self.retina_reg(x).flatten(2)[:, :, None]


class Heads(nn.Module):
    """Predictions of several pyramids in one row, as on one level."""

    def __init__(self, pairs: Sequence[Pair], pyramids: Pyramids) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(neck, p) for (neck, _), p in zip(pairs, pyramids.pyramids, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, offsets, start = [], [], 0
        for head in self.heads:
            end = start + len(head.context) + 1
            found = head(maps[start:end])
            logits.append(found[0]), offsets.append(found[1])
            start = end
        return [torch.cat(logits, -1)], [torch.cat(offsets, -1)]


def retinanet(pairs: Sequence[Pair]) -> ExportableDetector:
    """Build a RetinaNet that finds objects in the maps of every pyramid."""
    pyramids = Pyramids(pairs)
    heads = Heads(pairs, pyramids)
    levels = range(sum(len(head.context) + 1 for head in heads.heads))
    anchors = GridAnchors(torch.tensor([[-8.0, -4, 8, 4]]), (16, 16))
    rule = SelectionRule(score_threshold=0.1, iou_threshold=0.5, limit=300)
    objects = DenseDetector(heads, [anchors], BoxCoder(clips=False), CLASSES, 300, rule, levels)
    pixels = PixelInput([127.5] * 3, [64.0] * 3, "RGB", divisor=32)
    detector = ExportableDetector(pixels, pyramids, objects, ExportSettings("mmdet", "retinanet", CLASSES, 0.1, 300))
    with torch.no_grad():
        spread_predictions(detector.eval(), lambda: detector(images((180, 210))))
    return detector


def images(size: tuple[int, int]) -> Tensor:
    """Return one coarse picture."""
    return nn.functional.interpolate(torch.rand(1, 3, 12, 20), size=size, mode="bilinear") * 255


def check(pairs: Sequence[Pair], path: Path) -> None:
    """Export, run, and compare with the detector itself."""
    detector, pixels = retinanet(pairs), images(SIZE)
    metadata = describe(detector, dict(enumerate("ab")), ResizeRule(64, 128))
    outputs = open_session(export_detector(detector, path, metadata))(pixels.numpy())
    with torch.no_grad():
        expected = detector(pixels)
    first, second = (
        Detections(found["boxes"], found["scores"], found["labels"])
        for found in (expected, {name: torch.from_numpy(value) for name, value in outputs.items()})
    )
    agreed = agreement([(0, first, second)], box_tolerance=0.05, score_tolerance=1e-3)
    assert agreed.total >= 2 * len(pairs) and agreed.share == 1, agreed


@pytest.mark.parametrize("pairs", GROUPS)
@EXPORTS
def test_an_exported_detector_finds_the_same(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file takes another size and another number of images than the traced ones."""
    monkeypatch.setattr(torch.onnx, "export", partial(torch.onnx.export, optimize=False))  # a third of the time
    try:
        check(pairs, tmp_path / "detector.onnx")
    except (AssertionError, ValueError) as error:
        wrong = {}
        for pair in pairs:
            try:
                check([pair], tmp_path / "detector.onnx")
            except (AssertionError, ValueError) as single:
                wrong[pair] = str(single)[:300]
        raise AssertionError(f"differ, or are not exported: {wrong or error}") from error
