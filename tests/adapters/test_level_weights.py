"""Weights of RetinaNet's levels: off they are the stock loss, on they are the weighted sum of its levels, in both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps, single
from torch import Tensor

STRIDES = (8, 16, 32)
SIDE, CLASSES, BATCH = 128, 5, 2
WEIGHTS = (2.0, 0.5, 3.0)
# of an object on each level, and of one that few anchors overlap
BOXES = ([[10, 12, 40, 44], [50, 40, 120, 104], [30, 90, 47, 99]], [[0, 0, 127, 120]])
LABELS = ([1, 4, 0], [2])


@pytest.fixture
def predictions() -> tuple[list[Tensor], list[Tensor]]:
    """Logits and deltas of each level, one square anchor per cell: ``B classes h w`` and ``B 4 h w``."""
    logits, deltas = (
        [torch.randn(BATCH, c, SIDE // s, SIDE // s, dtype=torch.double, requires_grad=True) for s in STRIDES]
        for c in (CLASSES, 4)
    )
    return logits, deltas


def gradients(loss: Tensor, predictions: tuple[list[Tensor], list[Tensor]]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [*predictions[0], *predictions[1]]))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(x.equal(y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------------------------------- mmdet


def mmdet_head(kind: str, **arguments: Any) -> Any:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    head = {
        "type": kind,
        "num_classes": CLASSES,
        "in_channels": 4,
        "stacked_convs": 0,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "octave_base_scale": 4,
            "scales_per_octave": 1,
            "ratios": [1.0],
            "strides": STRIDES,
        },
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25},
        "loss_bbox": {"type": "L1Loss"},
        "train_cfg": {
            "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0},
            "sampler": {"type": "PseudoSampler"},
            "allowed_border": -1,
            "pos_weight": -1,
        },
    }
    return MODELS.build({**head, **arguments})


def mmdet_levels(head: Any, predictions: tuple[list[Tensor], list[Tensor]]) -> dict[str, list[Tensor]]:
    """The head's losses, one per level."""
    from mmengine.structures import InstanceData

    objects = [
        InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor(labels))
        for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]
    metas = [{"img_shape": (SIDE, SIDE), "pad_shape": (SIDE, SIDE)}] * BATCH
    return head.loss_by_feat(*predictions, objects, metas)


def mmdet_sums(head: Any, predictions: tuple[list[Tensor], list[Tensor]]) -> dict[str, Tensor]:
    """Classification and box loss."""
    levels = mmdet_levels(head, predictions)
    return {"cls": torch.stack(levels["loss_cls"]).sum(), "box": torch.stack(levels["loss_bbox"]).sum()}


@pytest.mark.mmdet
def test_mmdet_without_weights_is_stock_bit_for_bit(predictions: Any) -> None:
    stock = mmdet_levels(mmdet_head("mmdet.RetinaHead"), predictions)
    wanted = gradients(sum(stock["loss_cls"] + stock["loss_bbox"]), predictions)
    for arguments in ({}, {"level_weights": None}, {"level_weights": []}, {"level_weights": [1, 1, 1]}):
        ours = mmdet_levels(mmdet_head("fpn_plugins.RetinaHead", **arguments), predictions)
        assert list(ours) == list(stock)
        assert all(same(ours[name], stock[name]) for name in stock)
        assert same(gradients(sum(ours["loss_cls"] + ours["loss_bbox"]), predictions), wanted)


@pytest.mark.mmdet
def test_mmdet_weighs_each_level(predictions: Any) -> None:
    stock = mmdet_levels(mmdet_head("mmdet.RetinaHead"), predictions)
    ours = mmdet_levels(mmdet_head("fpn_plugins.RetinaHead", level_weights=WEIGHTS), predictions)
    assert all(float(loss) > 0 for losses in stock.values() for loss in losses)  # every level has an object
    for name, losses in stock.items():
        assert same(ours[name], [weight * loss for weight, loss in zip(WEIGHTS, losses, strict=True)])


@pytest.mark.mmdet
def test_mmdet_keeps_the_state_dict() -> None:
    ours, stock = mmdet_head("fpn_plugins.RetinaHead", level_weights=WEIGHTS), mmdet_head("mmdet.RetinaHead")
    assert list(ours.state_dict()) == list(stock.state_dict())


@pytest.mark.mmdet
def test_mmdet_names_a_wrong_number_of_weights() -> None:
    with pytest.raises(ValueError, match="are 2 weights, the head has 3 levels"):
        mmdet_head("fpn_plugins.RetinaHead", level_weights=[1, 2])


# ---------------------------------------------------------------------------------------------- Detectron2


def detectron2_model(stock: bool = False, **arguments: Any) -> Any:
    """The meta architecture around heads that are not called."""
    from detectron2.modeling import RetinaNet
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.matcher import Matcher

    from fpn_plugins.adapters.detectron2 import FPNPluginsRetinaNet

    sizes, strides = [[4 * stride] for stride in STRIDES], list(STRIDES)
    return (RetinaNet if stock else FPNPluginsRetinaNet)(
        backbone=torch.nn.Identity(),
        head=torch.nn.Identity(),
        head_in_features=["p3", "p4", "p5"],
        anchor_generator=DefaultAnchorGenerator(sizes=sizes, aspect_ratios=[[1.0]], strides=strides, offset=0.0),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        anchor_matcher=Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True),
        num_classes=CLASSES,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[1.0, 1.0, 1.0],
        **arguments,
    )


def detectron2_sums(
    model: Any, predictions: tuple[list[Tensor], list[Tensor]], only_level: int | None = None
) -> dict[str, Tensor]:
    """Classification and box loss; with ``only_level`` the anchors of all other levels are ignored."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    objects = [
        Instances((SIDE, SIDE), gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)), gt_classes=torch.tensor(ids))
        for boxes, ids in zip(BOXES, LABELS, strict=True)
    ]
    logits, deltas = model._transpose_dense_predictions(list(predictions), [CLASSES, 4])
    anchors = model.anchor_generator(predictions[0])
    labels, boxes = model.label_anchors(anchors, objects)
    if only_level is not None:
        level = torch.cat([torch.full((len(part),), i) for i, part in enumerate(anchors)])
        labels = [torch.where(level == only_level, part, -1) for part in labels]
    with EventStorage() as storage:
        losses = model.losses(anchors, logits, labels, deltas, boxes)
        assert storage.latest()["num_pos_anchors"][0] > 0
    return {"cls": losses["loss_cls"], "box": losses["loss_box_reg"]}


@pytest.fixture
def unoptimized() -> Iterator[None]:
    """Detectron2's focal loss is TorchScript, whose gradients change in the last bit once it has been profiled."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.mark.detectron2
@pytest.mark.usefixtures("unoptimized")
def test_detectron2_without_weights_is_stock_bit_for_bit(predictions: Any) -> None:
    stock = detectron2_sums(detectron2_model(stock=True), predictions)
    wanted = gradients(stock["cls"] + stock["box"], predictions)
    for arguments in ({}, {"level_weights": None}, {"level_weights": []}):
        ours = detectron2_sums(detectron2_model(**arguments), predictions)
        assert same(list(ours.values()), list(stock.values()))
        assert same(gradients(ours["cls"] + ours["box"], predictions), wanted)


@pytest.mark.detectron2
@pytest.mark.parametrize("box_reg_loss_type", ["smooth_l1", "giou"])
def test_detectron2_weights_of_one_are_stock(predictions: Any, box_reg_loss_type: str) -> None:
    """The sums over the levels are added up in another order."""
    stock = detectron2_model(stock=True, box_reg_loss_type=box_reg_loss_type)
    ours = detectron2_model(level_weights=[1, 1, 1], box_reg_loss_type=box_reg_loss_type)
    for _ in range(2):  # the normalizer is a running mean
        wanted, got = detectron2_sums(stock, predictions), detectron2_sums(ours, predictions)
        assert ours.loss_normalizer == stock.loss_normalizer
        assert_same_maps(got, wanted, tolerance=single())
        pair = (gradients(sums["cls"] + sums["box"], predictions) for sums in (got, wanted))
        assert_same_gradients(*pair, tolerance=single())  # of Detectron2's focal loss and GIoU


@pytest.mark.detectron2
def test_detectron2_weighs_each_level(predictions: Any) -> None:
    ours = detectron2_model(level_weights=WEIGHTS)
    got = detectron2_sums(ours, predictions)
    wanted = {"cls": torch.zeros((), dtype=torch.double), "box": torch.zeros((), dtype=torch.double)}
    for level, weight in enumerate(WEIGHTS):
        stock = detectron2_model(stock=True)
        for name, loss in detectron2_sums(stock, predictions, only_level=level).items():
            assert float(loss) > 0
            wanted[name] = wanted[name] + weight * loss * stock.loss_normalizer / ours.loss_normalizer
    assert_same_maps(got, wanted, tolerance=single())


@pytest.mark.detectron2
def test_detectron2_names_a_wrong_number_of_weights() -> None:
    with pytest.raises(ValueError, match="are 4 weights, the head has 3 levels"):
        detectron2_model(level_weights=[1, 2, 3, 4])


# ---------------------------------------------------------------------------------------------- both


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("weights", [WEIGHTS, (0.0, 1.0, 0.0)])
def test_the_same_weights_change_the_loss_by_the_same_factor(predictions: Any, weights: tuple[float, ...]) -> None:
    """One anchor per cell, so that the anchors and the losses, normalizers aside, are the same in both toolboxes."""
    mmdet = [
        mmdet_sums(mmdet_head("fpn_plugins.RetinaHead", level_weights=level_weights), predictions)
        for level_weights in (weights, None)
    ]
    detectron2 = [
        detectron2_sums(detectron2_model(level_weights=level_weights), predictions) for level_weights in (weights, None)
    ]
    for name in ("cls", "box"):
        ratio = float(mmdet[0][name] / mmdet[1][name])
        assert ratio == pytest.approx(float(detectron2[0][name] / detectron2[1][name]), rel=single())
        assert abs(ratio - 1) > 0.01


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("level_weights", [None, WEIGHTS])
def test_without_momentum_detectron2_divides_as_mmdet(predictions: Any, level_weights: Any) -> None:
    mmdet = mmdet_sums(mmdet_head("fpn_plugins.RetinaHead", level_weights=level_weights), predictions)
    model = detectron2_model(level_weights=level_weights, normalizer_momentum=0.0)
    for _ in range(2):  # the past counts for nothing
        # each toolbox computes the targets in single precision
        assert_same_maps(detectron2_sums(model, predictions), mmdet, tolerance=single())
