"""Exportable detectors find what the toolbox's own detectors find, object by object."""

from __future__ import annotations

import pytest
import torch
from export_detectors import (
    KINDS,
    build,
    build_detectron2,
    build_mmdet,
    find_something,
    host_module,
    random_images,
    run,
)
from torch import Tensor

TOOLBOXES = ("mmdet", "detectron2")
# no stride divides the sides
SIZES = [(2, (101, 93)), (1, (67, 150))]


def compare(expected: list[dict[str, Tensor]], got: dict[str, Tensor], least: int = 10) -> None:
    """Assert that each image has the same objects, at least ``least`` of them."""
    assert len(got["scores"]) == sum(len(entry["scores"]) for entry in expected)
    for index, entry in enumerate(expected):
        mine = got["image_indices"] == index
        assert len(entry["scores"]) >= least
        torch.testing.assert_close(got["boxes"][mine], entry["boxes"], rtol=0, atol=1e-2)
        torch.testing.assert_close(got["scores"][mine], entry["scores"], rtol=0, atol=1e-4)
        assert got["labels"][mine].tolist() == entry["labels"].tolist()
        assert ("masks" in got, "semantic_logits" in got) == ("masks" in entry, "semantic_logits" in entry)
        if "masks" in entry:
            assert float(iou(got["masks"][mine], entry["masks"]).min()) >= 0.999
            assert entry["masks"].any()
        if "semantic_logits" in entry:
            torch.testing.assert_close(got["semantic_logits"][index], entry["semantic_logits"], rtol=0, atol=1e-4)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of masks ``N H W``; 1 where both are empty."""
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return torch.where(either == 0, 1.0, both / either.clamp(min=1))


def check(detector: object, toolbox: str, sizes: list[tuple[int, tuple[int, int]]] = SIZES, least: int = 10) -> None:
    """Compare the toolbox's detector with the exportable one at several sizes."""
    exportable = host_module(toolbox).exportable(detector, masks="pasted")
    for number, size in sizes:
        images = random_images(number, size, seed=1)
        with torch.no_grad():
            compare(run(detector, toolbox, images), exportable(images), least)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in TOOLBOXES])
def test_finds_what_the_toolbox_finds(toolbox: str, kind: str):
    detector = build(toolbox, kind)
    check(detector, toolbox)
    assert host_module(toolbox).exportable(detector).settings.kind == kind


@pytest.mark.parametrize("toolbox", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in TOOLBOXES])
def test_few_candidates_on_a_tiny_image(toolbox: str):
    """Fewer anchors than candidates on every level, in both kinds of heads."""
    for kind in ("retinanet", "mask_rcnn"):
        check(build(toolbox, kind), toolbox, [(1, (9, 14))], least=1)


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mask_rcnn", ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)),
        ("mask_rcnn", ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True)),
        ("mask_rcnn", ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2)),
        ("faster_rcnn", ("MODEL.ROI_HEADS.IN_FEATURES", ["p3"], "MODEL.RPN.IN_FEATURES", ["p3", "p4"],
                         "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]])),
        ("faster_rcnn", ("MODEL.ROI_BOX_HEAD.NUM_CONV", 2, "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
                         "MODEL.ROI_BOX_HEAD.CONV_DIM", 16, "MODEL.ROI_BOX_HEAD.NORM", "LN",
                         "MODEL.RPN.CONV_DIMS", [-1, -1], "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True)),
        ("cascade_rcnn", ()),
        ("retinanet", ("MODEL.RETINANET.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 64,
                       "MODEL.ANCHOR_GENERATOR.OFFSET", 0.5)),
    ],
)  # fmt: skip
def test_options_of_detectron2(kind: str, options: tuple[object, ...]):
    check(find_something(build_detectron2(kind, options), "detectron2"), "detectron2", SIZES[:1])


@pytest.mark.detectron2
def test_a_square_that_no_stride_divides():
    """Detectron2 rounds the side up."""
    detector = build_detectron2("retinanet")
    detector.backbone._square_pad = 150
    assert detector.backbone.padding_constraints["square_size"] == 150 and detector.backbone.size_divisibility == 32
    check(find_something(detector, "detectron2"), "detectron2")


def agnostic(model: dict) -> None:
    model["roi_head"]["bbox_head"]["reg_class_agnostic"] = True
    model["roi_head"]["mask_head"]["class_agnostic"] = True


def per_class(model: dict) -> None:
    for head in model["roi_head"]["bbox_head"]:
        head["reg_class_agnostic"] = False


def convolutions(model: dict) -> None:
    head = {
        "type": "mmdet.Shared4Conv1FCBBoxHead",
        "conv_out_channels": 16,
        "norm_cfg": {"type": "GN", "num_groups": 4},
    }
    model["roi_head"]["bbox_head"].update(head)
    model["rpn_head"]["num_convs"] = 2


def unusual(model: dict) -> None:
    model["test_cfg"]["rpn"].update(min_bbox_size=4, nms={"type": "nms", "iou_threshold": 0.6, "class_agnostic": True})
    model["test_cfg"]["rcnn"].update(
        nms={"type": "nms", "iou_threshold": 0.3, "class_agnostic": True},
        min_bbox_size=40,  # mmdet ignores this one
    )
    for part in ("bbox", "mask"):
        model["roi_head"][f"{part}_roi_extractor"].update(finest_scale=28)
        model["roi_head"][f"{part}_roi_extractor"]["roi_layer"].update(sampling_ratio=2, aligned=False)


def dense_options(model: dict) -> None:
    model["test_cfg"].update(min_bbox_size=8, score_thr=0.2, nms={"type": "nms", "iou_threshold": 0.7})
    model["bbox_head"]["anchor_generator"]["center_offset"] = 0.5
    model["data_preprocessor"].update(bgr_to_rgb=False, pad_size_divisor=1, pad_value=3)


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mask_rcnn", agnostic),
        ("mask_rcnn", convolutions),
        ("mask_rcnn", unusual),
        ("cascade_mask_rcnn", per_class),
        ("cascade_rcnn", lambda model: None),
        ("retinanet", dense_options),
    ],
)
def test_options_of_mmdet(kind: str, change):
    check(find_something(build_mmdet(kind, change), "mmdet"), "mmdet", SIZES[:1])


@pytest.mark.detectron2
def test_images_with_and_without_objects():
    """Counts differ between the images of a batch, down to none."""
    detector = build("detectron2", "mask_rcnn")
    images = random_images(3, (64, 96))
    with torch.no_grad():
        scores = [entry["scores"].tolist() for entry in run(detector, "detectron2", images)]
        detector.roi_heads.box_predictor.test_score_thresh = sorted(scores[0] + scores[1] + scores[2])[-4]
        expected, exportable = run(detector, "detectron2", images), host_module("detectron2").exportable(detector)
        compare_counts = [len(entry["scores"]) for entry in expected]
        got = exportable(images)
        assert [int((got["image_indices"] == index).sum()) for index in range(3)] == compare_counts
        assert sum(compare_counts) == 3
        assert got["masks"].shape == (3, 28, 28)
        detector.roi_heads.box_predictor.test_score_thresh = 1.0
        nothing = host_module("detectron2").exportable(detector)(images)
    assert {name: tuple(value.shape) for name, value in nothing.items()} == {
        "boxes": (0, 4), "scores": (0,), "labels": (0,), "image_indices": (0,), "masks": (0, 28, 28)
    }  # fmt: skip


@pytest.mark.mmdet
def test_integers_and_normalized_images():
    detector = build("mmdet", "retinanet")
    host, images = host_module("mmdet"), random_images(2, (64, 96))
    with torch.no_grad():
        whole = host.exportable(detector)
        expected = whole(images)
        integers = whole(images.to(torch.uint8))
        normalized = host.exportable(detector, normalized=True)((images - whole.pixels.mean) / whole.pixels.std)
    for name, value in expected.items():
        assert torch.equal(integers[name], value)
        torch.testing.assert_close(normalized[name], value)
