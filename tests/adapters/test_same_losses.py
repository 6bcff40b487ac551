"""The same weights have the same losses and gradients on the same batch in both toolboxes.

With the options of ``SAME``, which docs/same_training.md explains to users. ``pytest -rP`` shows the numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from both_toolboxes import detectron2_losses, mmdet_losses, read_batch
from same_training import (
    SAME,
    STAGES,
    assert_differ,
    assert_same,
    assert_same_gradients,
    comparable,
    pair,
    prepare_cascade,
    total,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm, pytest.mark.usefixtures("demo_data")]


def test_both_read_the_same_batch() -> None:
    """Images that need no resizing: pixels, boxes, classes and masks, which are bitmaps in both."""
    batch = read_batch([2, 3, 8])
    for image, sample, theirs in zip(*batch.mmdet.values(), batch.detectron2, strict=True):
        objects, others = sample.gt_instances, theirs["instances"]
        assert torch.equal(image.flip(0), theirs["image"])
        assert torch.equal(objects.bboxes.tensor, others.gt_boxes.tensor)
        assert torch.equal(objects.labels, others.gt_classes)
        assert torch.equal(torch.from_numpy(objects.masks.masks).bool(), others.gt_masks.tensor.bool())


def test_both_read_the_same_annotations_of_resized_images() -> None:
    """Boxes, integers in the file, and polygons; pixels are interpolated by OpenCV and by pillow."""
    batch = read_batch([2, 3, 8], masks="polygon", size=(180, 240))
    for image, sample, theirs in zip(*batch.mmdet.values(), batch.detectron2, strict=True):
        objects, others = sample.gt_instances, theirs["instances"]
        assert sorted(image.shape[1:]) == [180, 240] and (objects.bboxes.tensor % 1).any()
        assert torch.equal(objects.bboxes.tensor, others.gt_boxes.tensor)
        for one, other in zip(objects.masks.masks, others.gt_masks.polygons, strict=True):
            assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
        assert 0 < (image.flip(0).float() - theirs["image"].float()).abs().mean() < 3


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_losses_and_gradients_are_the_same(name: str) -> None:
    batch = read_batch([2, 3])
    models = pair(name, batch)
    ours, theirs = mmdet_losses(models.mmdet, batch), comparable(*detectron2_losses(models.detectron2, batch))
    assert_same(ours, theirs)
    assert_same_gradients(models, total(ours), total(theirs))


def test_rpn_needs_no_factor_where_its_sampler_finds_all_it_asks_for() -> None:
    """As it does in training, where there are more than 256 anchors."""
    batch = read_batch([3])
    _, log = detectron2_losses(pair("mask_rcnn", batch).detectron2, batch)
    number = int(log["rpn/num_pos_anchors"] + log["rpn/num_neg_anchors"])
    models = pair(
        "mask_rcnn",
        batch,
        mmdet=(f"model.train_cfg.rpn.sampler.num={number}",),
        detectron2=(f"model.proposal_generator.batch_size_per_image={number}",),
    )
    assert_same(mmdet_losses(models.mmdet, batch), detectron2_losses(models.detectron2, batch)[0])


def test_losses_are_the_same_with_polygons_too() -> None:
    """mmdet's ``poly2mask=False`` and Detectron2's default; only a bitmap beside a polygon differs."""
    from detectron2.structures import BitMasks

    batch = read_batch([2], masks="polygon")
    models = pair("mask_rcnn", batch)
    ours = mmdet_losses(models.mmdet, batch)
    assert_same(ours, comparable(*detectron2_losses(models.detectron2, batch)))
    for entry in batch.detectron2:
        entry["instances"].gt_masks = BitMasks.from_polygon_masks(
            entry["instances"].gt_masks, *entry["image"].shape[1:]
        )
    bitmaps = comparable(*detectron2_losses(models.detectron2, batch))
    assert_differ("loss_mask", ours, bitmaps)
    assert_same(ours, {**bitmaps, "loss_mask": ours["loss_mask"]})


def test_losses_of_a_cascade_are_the_same_and_their_gradients_a_third() -> None:
    """Those by the box losses, behind the box heads. Detectron2's one mask loss is that of mmdet's first stage."""
    batch = read_batch([2], image_format="BGR")
    models = pair("cascade", batch, prepare=prepare_cascade)
    ours = mmdet_losses(models.mmdet, batch)
    masks = [ours.pop(f"loss_mask_stage{stage}") for stage in STAGES]
    ours["loss_mask"] = masks[0]
    theirs = comparable(*detectron2_losses(models.detectron2, batch))
    assert_same(ours, theirs)
    third = torch.stack([value / 3 if "_stage" in name else value for name, value in ours.items()]).sum()
    assert_same_gradients(models, third, total(theirs), of_box_heads=3.0, mask_stage=0)


def test_a_momentum_that_never_forgets_is_an_error() -> None:
    with pytest.raises(ValueError, match="normalizer_momentum=1.0 must be at least 0 and below 1"):
        pair("retinanet", read_batch([2]), detectron2=("MODEL.FPN_PLUGINS.NORMALIZER_MOMENTUM=1.0",))


@pytest.mark.parametrize("name", SAME)
def test_the_page_names_what_has_to_be_set(name: str) -> None:
    page = (ROOT / "docs/same_training.md").read_text(encoding="utf-8")
    for options in SAME[name]:
        for option in options:
            assert option in page
