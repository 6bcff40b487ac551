"""Where the losses of the two toolboxes differ for the same weights and batch: each by the amount its cause explains.

docs/same_training.md tells users what to do about it. ``pytest -rP`` shows the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from both_toolboxes import Batch, detectron2_losses, mmdet_losses, read_batch
from same_training import (
    ALL,
    CONFIGS,
    STAGES,
    assert_differ,
    assert_same,
    comparable,
    pair,
    prepare_cascade,
    rpn_factor,
)
from torch import Tensor

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm, pytest.mark.usefixtures("demo_data")]


def test_stock_retinanet_divides_by_a_running_mean() -> None:
    """mmdet by the number of positive anchors; Detectron2 by the mean of it and 100, the past weighing 0.9."""
    batches = [read_batch([2, 3]), read_batch([6, 7])]
    models = pair("retinanet", batches[0], same=False)
    mean = 100.0
    for batch in batches:
        theirs, log = detectron2_losses(models.detectron2, batch)
        positive = log["num_pos_anchors"] * len(batch.detectron2)
        mean = 0.9 * mean + 0.1 * positive
        ours = mmdet_losses(models.mmdet, batch)
        assert_differ("loss_cls", ours, theirs)
        assert_same(ours, {name: value * mean / positive for name, value in theirs.items()})


def test_only_detectron2_trains_the_rpn_on_an_object_that_no_anchor_fits() -> None:
    """mmdet asks for an overlap of 0.3 even of the best anchor of an object."""
    batch = read_batch([1])
    for same in (False, True):
        models = pair("mask_rcnn", batch, same=same)
        ours, theirs = mmdet_losses(models.mmdet, batch), comparable(*detectron2_losses(models.detectron2, batch))
        if same:
            assert_same(ours, theirs)
        else:
            assert_differ("loss_rpn_loc", ours, theirs)


def test_the_best_anchor_of_an_object_that_overlaps_another_one_more() -> None:
    """mmdet makes it predict the former, Detectron2 the latter; without such matches they agree."""
    batch = read_batch([4, 5])
    for forced in (True, False):
        models = pair(
            "mask_rcnn",
            batch,
            mmdet=(f"model.train_cfg.rpn.assigner.match_low_quality={forced}",),
            detectron2=(f"model.proposal_generator.anchor_matcher.allow_low_quality_matches={forced}",),
        )
        ours, theirs = mmdet_losses(models.mmdet, batch), comparable(*detectron2_losses(models.detectron2, batch))
        if forced:
            assert_differ("loss_rpn_loc", ours, theirs)
            theirs["loss_rpn_loc"] = ours["loss_rpn_loc"]
        assert_same(ours, theirs)


@pytest.mark.parametrize("match_low_quality", [True, False])
def test_the_best_region_of_an_object_that_overlaps_another_one_more(match_low_quality: bool) -> None:
    """mmdet's own Mask R-CNN gives it to the former; it is without this option as Detectron2's."""
    from detectron2.config import LazyConfig, instantiate
    from detectron2.structures import Boxes, pairwise_iou
    from mmdet.registry import TASK_UTILS
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    objects, region = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]]), torch.tensor([[0.0, 0, 10, 9.5]])
    assigner = Config.fromfile(CONFIGS["mask_rcnn"][0]).model.train_cfg.rcnn.assigner
    assert assigner.match_low_quality  # mmdet's default
    ours = TASK_UTILS.build({**assigner, "match_low_quality": match_low_quality})
    found = ours.assign(InstanceData(priors=region), InstanceData(bboxes=objects, labels=torch.tensor([0, 1])))
    theirs = instantiate(LazyConfig.load(CONFIGS["mask_rcnn"][1]).model.roi_heads.proposal_matcher)
    matches, _ = theirs(pairwise_iou(Boxes(objects), Boxes(region)))
    assert matches.tolist() == [0] and found.labels.tolist() == [int(match_low_quality)]


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_anchors_in_the_padding_are_background_in_detectron2_alone(name: str) -> None:
    """Of a batch in which one image is larger than the other; mmdet leaves them out."""
    from fvcore.nn import sigmoid_focal_loss

    batch = read_batch([7, 8])
    models = pair(name, batch)
    theirs, log, logits = losses_and_padding(models.detectron2, name, batch)
    ours, number = mmdet_losses(models.mmdet, batch), len(batch.detectron2)
    if name == "retinanet":
        assert_differ("loss_cls", ours, theirs)
        excess = sigmoid_focal_loss(logits, torch.zeros_like(logits), alpha=0.25, gamma=2.0, reduction="sum")
        assert_same(ours, {**theirs, "loss_cls": theirs["loss_cls"] - excess / (number * log["num_pos_anchors"])})
        return
    assert_differ("loss_rpn_cls", ours, comparable(theirs, log))
    asked = ALL * number
    theirs["loss_rpn_cls"] = theirs["loss_rpn_cls"] - torch.nn.functional.softplus(logits).sum() / asked
    left = asked / rpn_factor(log) - len(logits)
    assert_same(ours, {key: value * asked / left if "rpn" in key else value for key, value in theirs.items()})


def losses_and_padding(detector: Any, name: str, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float], Tensor]:
    """Detectron2's losses, its log, and the logits of background anchors outside of their image's own padding."""
    from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K

    dense = detector if name == "retinanet" else detector.proposal_generator
    head, classes = (dense.head, dense.num_classes) if name == "retinanet" else (dense.rpn_head, 1)
    maps: list[Tensor] = []
    head.register_forward_hook(lambda module, inputs, outputs: maps.extend(outputs[0]))
    losses, log = detectron2_losses(detector, batch)
    label = dense.label_anchors if name == "retinanet" else dense.label_and_sample_anchors
    labels, _ = label(dense.anchor_generator(maps), [entry["instances"] for entry in batch.detectron2])
    logits = torch.cat([permute_to_N_HWA_K(level, classes) for level in maps], 1).detach()
    strides = dense.anchor_generator.strides
    outside = torch.stack([outside_of(entry["image"].shape[1:], maps, strides, classes) for entry in batch.detectron2])
    background = torch.stack(labels) == (classes if name == "retinanet" else 0)
    return losses, log, logits[outside & background]


def outside_of(size: torch.Size, maps: list[Tensor], strides: Sequence[int], classes: int) -> Tensor:
    """Which anchors of all levels lie beyond an image that is padded to multiples of 32 pixels."""
    found = []
    for level, stride in zip(maps, strides, strict=True):
        cells = torch.ones(*level.shape[-2:], level.shape[1] // classes, dtype=torch.bool)
        height, width = (math.ceil(math.ceil(side / 32) * 32 / stride) for side in size)
        cells[:height, :width] = False
        found.append(cells.flatten())
    return torch.cat(found)


def test_ground_truth_passes_through_the_cascade_of_detectron2_alone() -> None:
    """mmdet adds the true boxes to the proposals of each stage, Detectron2 refines those it has added to the first."""
    batch = read_batch([2], image_format="BGR")
    models = pair(
        "cascade",
        batch,
        mmdet=tuple(f"model.train_cfg.rcnn.{stage}.sampler.add_gt_as_proposals=True" for stage in STAGES),
        detectron2=("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT=True",),
        prepare=prepare_cascade,
    )
    ours, theirs = mmdet_losses(models.mmdet, batch), comparable(*detectron2_losses(models.detectron2, batch))
    first = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls_stage0", "loss_box_reg_stage0")
    assert_same({name: ours[name] for name in first}, {name: theirs[name] for name in first})
    for stage in STAGES[1:]:
        assert_differ(f"loss_box_reg_stage{stage}", ours, theirs)


@pytest.mark.parametrize("avg_non_ignore", [False, True])
def test_semantic_losses_of_panoptic_fpn_differ_in_where_they_compare(avg_non_ignore: bool) -> None:
    """mmdet takes every fourth label, Detectron2 enlarges the logits; unlabeled pixels count in mmdet's mean."""
    batch = read_batch([2, 3], stem="demo_panoptic_fpn")
    models = pair("panoptic", batch, mmdet=(f"model.semantic_head.loss_seg.avg_non_ignore={avg_non_ignore}",))
    ours, theirs = mmdet_losses(models.mmdet, batch), comparable(*detectron2_losses(models.detectron2, batch))
    assert_differ("loss_sem_seg", ours, theirs)
    detector = models.detectron2
    with torch.no_grad():
        images = detector.preprocess_image(batch.detectron2)
        logits = detector.sem_seg_head.layers(detector.backbone(images.tensor))
    labels = torch.full((len(images), *images.tensor.shape[-2:]), 255)
    for one, entry in zip(labels, batch.detectron2, strict=True):
        one[: entry["sem_seg"].shape[0], : entry["sem_seg"].shape[1]] = entry["sem_seg"]
    labels = labels[:, ::4, ::4]
    loss = 0.5 * torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    labeled = (labels != 255).float().mean()
    assert labeled < 1  # the padding at least
    assert_same(ours, {**theirs, "loss_sem_seg": loss * (1 if avg_non_ignore else labeled)})
