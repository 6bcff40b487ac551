"""Common claims about the cost of FPN, with counts and published numbers; `check.py` writes the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from claim import COMPARISON, Claim, Row

from fpn_plugins.adapters.hosts import detector_cost
from fpn_plugins.analysis import CostReport, pyramid_cost

SIZE = (800, 1344)
BACKBONES = {"resnet50": "R50", "resnet101": "R101", "resnext101_32x8d": "X101-32x8d"}
FPNS: dict[str, dict[str, Any]] = {
    "P2-P5": {"type": "FPN"},
    "P3-P5": {"type": "FPN", "in_indices": (1, 2, 3)},
    "P3-P5, 128 channels": {"type": "FPN", "in_indices": (1, 2, 3), "out_channels": 128},
}
SINGLE_SCALE = {"type": "SingleScale"}
ZOO = "detectron2::COCO-Detection/faster_rcnn_R_50_{}_1x.yaml"
DETECTORS = {"C4": "C4, conv5 as head", "DC5": "dilated C5", "FPN": "FPN"}
SCALES = ((1, 1 / 2), (4 / 3, 1, 2 / 3), (2, 1), (2, 1, 1 / 2), (2, 4 / 3, 1, 2 / 3))

# Detectron2's MODEL_ZOO.md, 1x schedules, 8 V100: inference s/image, training GB
ZOO_TIMES = {"Faster R-CNN": {"C4": 0.102, "DC5": 0.068, "FPN": 0.038}, "RPN alone": {"C4": 0.034, "FPN": 0.032}}
ZOO_MEMORY = {"Faster R-CNN": {"C4": 4.8, "DC5": 5.0, "FPN": 3.0}, "RPN alone": {"C4": 1.5, "FPN": 2.7}}


@cache
def _cost(
    backbone: str, neck: str | None, indices: tuple[int, ...] = (1, 2, 3, 4), checkpointed: bool = False
) -> CostReport:
    spec = {"type": "TimmBackbone", "name": backbone, "out_indices": indices, "gradient_checkpointing": checkpointed}
    return pyramid_cost(spec, SINGLE_SCALE if neck == "SingleScale" else FPNS[neck] if neck else None, SIZE)


@cache
def _detector(kind: str) -> CostReport:
    return detector_cost(ZOO.format(kind), SIZE)


def _pairs() -> Iterator[tuple[str, str, str]]:
    """Yield backbone, FPN and the name of the comparison."""
    for backbone, short in BACKBONES.items():
        yield from ((backbone, fpn, f"{short}, backbone alone -> with FPN {fpn}") for fpn in FPNS)


def _added(what: str, before: float, after: float) -> Row:
    return Row(what, "counted", after / before - 1, f"{after / before - 1:+.0%} ({before:.0f} -> {after:.0f} GMACs)")


def flops() -> Claim:
    """Multiply-adds that FPN adds."""
    rows = []
    for backbone, fpn, what in _pairs():
        rows.append(_added(what, _giga(_cost(backbone, None)), _giga(_cost(backbone, fpn))))
    for fpn in ("P2-P5", "P3-P5"):
        before, after = _giga(_cost("resnet50", "SingleScale")), _giga(_cost("resnet50", fpn))
        rows.append(_added(f"R50, same convolutions on C5 alone -> with FPN {fpn}", before, after))
    for kind in ("C4", "DC5"):
        what = f"whole Faster R-CNN R50, {DETECTORS[kind]} -> FPN P2-P6 (Detectron2's zoo)"
        rows.append(_added(what, _giga(_detector(kind)), _giga(_detector("FPN"))))
    why = (
        "Most of FPN's cost is the 3x3 convolution of P2, which does not depend on the backbone: ResNet-101 with P3-P5 "
        "meets the claim, P2 exceeds it, heavier backbones and narrower pyramids stay below. As a whole detector, FPN "
        "costs less than the C4 model that the FPN paper compares with, because that model runs the backbone's last "
        "stage on every region."
    )
    return Claim("FLOPs of FPN", "FPN adds 10-15 % FLOPs to the single-scale baseline.", 0.1, 0.15, tuple(rows), why)


def lateral() -> Claim:
    """Share of the lateral 1x1 convolutions."""

    def share(report: CostReport) -> float:
        return report.total("neck", "lateral convs").macs / report.total("backbone").macs

    rows = [Row(what, "counted", share(_cost(b, fpn)), f"{share(_cost(b, fpn)):.1%}") for b, fpn, what in _pairs()]
    why = (
        "More than half the cost of the lateral convolutions of P2-P5 is that of C2, and their share shrinks with a "
        "heavier backbone: ResNet-50 with P3-P5 and ResNet-101 with P2-P5 meet the claim."
    )
    return Claim(
        "Lateral convolutions",
        "The lateral 1x1 convolutions cost about 5 % of the backbone.",
        0.04,
        0.06,
        tuple(rows),
        why,
    )


def outputs() -> Claim:
    """Share of the top-down path and the output 3x3 convolutions."""

    def share(report: CostReport) -> float:
        neck, laterals = report.total("neck"), report.total("neck", "lateral convs")
        return (neck.macs - laterals.macs) / report.total("backbone").macs

    rows = [Row(what, "counted", share(_cost(b, fpn)), f"{share(_cost(b, fpn)):.1%}") for b, fpn, what in _pairs()]
    why = (
        "Resizing and additions are not multiply-adds, so the 3x3 convolutions account for all of the cost. Most of it "
        "is the one at stride 4, whose map has three times as many cells as all others together."
    )
    statement = "The top-down path and the output convolutions cost another 5-10 % of the backbone."
    return Claim("Top-down path and output convolutions", statement, 0.05, 0.10, tuple(rows), why)


def memory() -> Claim:
    """Memory of training."""
    rows = []
    for backbone, fpn, what in _pairs():
        before, after = (_cost(backbone, neck).total().activation_bytes / 2**20 for neck in (None, fpn))
        text = f"{after / before:.2f} x ({before:.0f} -> {after:.0f} MiB kept for backward)"
        rows.append(Row(what, "counted", after / before, text))
    rows += [_published(f"training, {name} R50, C4", t["FPN"] / t["C4"], "{:.1f} x") for name, t in ZOO_MEMORY.items()]
    why = (
        "A pyramid keeps little compared with a ResNet: its convolutions have no norm and no activation, so each "
        "keeps only its input. The heads keep more on the fine levels: an RPN on P2-P6 instead of C4 raises "
        "Detectron2's memory by more than the claim, while the whole C4 detector needs more than the FPN detector."
    )
    return Claim("Memory", "FPN needs 1.2-1.5 times the memory of a single-scale network.", 1.2, 1.5, tuple(rows), why)


def image_pyramid() -> Claim:
    """Cost of a featurized image pyramid."""
    backbone = {"type": "TimmBackbone", "name": "resnet50", "out_indices": (3,)}
    single = _giga(pyramid_cost(backbone, None, SIZE))
    rows = []
    for scales in SCALES:
        pyramid = {"type": "ImagePyramid", "backbone": backbone, "scales": scales}
        ratio = _giga(pyramid_cost(pyramid, None, SIZE)) / single
        named = ", ".join(f"{scale:.3g}" for scale in scales)
        rows.append(Row(f"R50 to C4, image at scales {named}", "counted", ratio, f"{ratio:.2f} x"))
    ratio = _giga(_cost("resnet50", "P2-P5")) / _giga(_cost("resnet50", None))
    rows.append(Row("R50 with FPN P2-P5 to R50", COMPARISON, ratio, f"{ratio:.2f} x"))
    why = "The cost is the sum of the squared scales, so the claim holds for some choices of scales and not for others."
    statement = "A featurized image pyramid costs 3-5 times the FLOPs of one scale."
    return Claim("Featurized image pyramid", statement, 3, 5, tuple(rows), why)


def speed() -> Claim:
    """Speed of single-scale detectors."""
    rows = []
    for fpn in ("P2-P5", "P3-P5"):
        ratio = _giga(_cost("resnet50", fpn)) / _giga(_cost("resnet50", "SingleScale"))
        rows.append(Row(f"R50 with one map -> FPN {fpn}, MACs", "counted", ratio, f"{ratio:.2f} : 1"))
    for kind in ("C4", "DC5"):
        ratio = _giga(_detector("FPN")) / _giga(_detector(kind))
        rows.append(
            Row(f"whole Faster R-CNN R50, {DETECTORS[kind]} -> FPN, MACs", "counted", ratio, f"{ratio:.2f} : 1")
        )
    for name, times in ZOO_TIMES.items():
        for kind in sorted(set(times) - {"FPN"}):
            rows.append(_published(f"inference, {name} R50, {kind}", times["FPN"] / times[kind], "{:.2f} : 1"))
    why = (
        "With the same head, P2-P5 costs more than claimed and P3-P5 less. Published detectors show the opposite: "
        "FPN is the fastest of Detectron2's three kinds, and the FPN paper itself reports a shorter time than for its "
        "single-scale baseline, thanks to a lighter head."
    )
    statement = "A single-scale detector is faster than FPN, by 7 FPS to 5 (1.4 : 1)."
    return Claim("Speed", statement, 1.3, 1.5, tuple(rows), why)


def checkpointing() -> Claim:
    """Memory that gradient checkpointing saves."""
    rows = []
    for backbone, short in BACKBONES.items():
        before, after = (
            _cost(backbone, "P2-P5", checkpointed=on).total().activation_bytes / 2**20 for on in (False, True)
        )
        saved = 1 - after / before
        text = f"{saved:.0%} saved ({before:.0f} -> {after:.0f} MiB kept for backward)"
        rows.append(Row(f"{short} with FPN P2-P5, backbone checkpointed", "counted", saved, text))
    why = (
        "timm's feature networks keep the maps between stages and recompute a whole stage when the backward pass "
        "reaches it. The recomputed maps add to the peak, so the peak falls by less than the kept bytes. Their first "
        "and last modules are not checkpointed. Chen et al. (arXiv:1604.06174) state the cost as one more forward "
        "pass, about 30 % of the training time."
    )
    statement = "Gradient checkpointing saves training memory at the cost of a second forward pass."
    return Claim("Gradient checkpointing", statement, 0.01, 1.0, tuple(rows), why)


def _published(what: str, ratio: float, text: str) -> Row:
    return Row(f"{what} -> FPN", "published: Detectron2's MODEL_ZOO, V100", ratio, text.format(ratio))


def _giga(report: CostReport) -> float:
    return report.total().macs / 1e9


CLAIMS: Mapping[str, Callable[[], Claim]] = {
    "flops": flops,
    "lateral": lateral,
    "outputs": outputs,
    "memory": memory,
    "image_pyramid": image_pyramid,
    "speed": speed,
    "checkpointing": checkpointing,
}
