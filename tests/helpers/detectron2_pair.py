"""A detector of Detectron2's configs beside the same with our backbone, from one state dict, and what both compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from detectron2_training import draw_batch
from margins import record
from precision import assert_same_losses, assert_same_maps
from seeds import seed
from torch import nn

CHANNELS = 16


def narrow_heads(model: Any) -> Any:
    """The config of a (Cascade) Mask R-CNN with heads for maps of `CHANNELS`, and every detection wanted."""
    from detectron2.layers import ShapeSpec

    model.proposal_generator.head.in_channels = CHANNELS
    roi = model.roi_heads
    roi.update(num_classes=5, batch_size_per_image=32)
    boxes, predictors = (roi.get(f"{key}s", [roi.get(key)]) for key in ("box_head", "box_predictor"))
    for head, side in (*((head, 7) for head in boxes), (roi.mask_head, 14)):
        head.input_shape = ShapeSpec(channels=CHANNELS, height=side, width=side)
        head.conv_dims = [CHANNELS for _ in head.conv_dims]
    for head, predictor in zip(boxes, predictors, strict=True):
        head.fc_dims = [32]
        predictor.update(input_shape=ShapeSpec(channels=32), test_score_thresh=0.0)
    return model


def build(cfg: Any) -> nn.Module:
    """A detector without a zero in it, whose proposals differ in their scores.

    Relative positions and residual norms start as ones that do nothing, and all proposals as equally good: rounding
    would choose among them.
    """
    from detectron2.config import instantiate

    model = instantiate(cfg)
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    nn.init.normal_(model.proposal_generator.rpn_head.objectness_logits.weight)
    return model


def build_pair(stock: Any, ours: Any) -> tuple[nn.Module, nn.Module]:
    """Both detectors, ours with the weights of the other as they are."""
    seed(0)
    theirs, own = build(stock), build(ours)
    result = own.load_state_dict(theirs.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    return theirs, own


def their_names(theirs: nn.Module, ours: nn.Module) -> dict[str, str]:
    """Our parameter names -> Detectron2's, found by loading a state dict of serial numbers."""
    numbered = {name: torch.full_like(p, index) for index, (name, p) in enumerate(theirs.named_parameters())}
    kept = {name: p.detach().clone() for name, p in ours.state_dict().items()}
    ours.load_state_dict(numbered, strict=False)
    names = list(numbered)
    found = {name: names[int(p.detach().flatten()[0])] for name, p in ours.named_parameters()}
    ours.load_state_dict(kept)
    assert len(set(found.values())) == len(numbered)
    return found


@contextmanager
def nms_of_double_scores() -> Iterator[None]:
    """Let Detectron2 in double precision suppress boxes, which it rounds to single precision, but not their scores."""
    from torchvision.ops import boxes as ops

    suppress = ops.batched_nms
    with mock.patch.object(ops, "batched_nms", lambda boxes, scores, *rest: suppress(boxes, scores.float(), *rest)):
        yield


def assert_equal_training(theirs: nn.Module, ours: nn.Module, num_losses: int, tolerance: float = 1e-6) -> None:
    """Losses of one seeded batch, and the gradient of every parameter within ``tolerance`` of its norm.

    In double precision but for the boxes: a ReLU at its edge passes one cell's gradient on, or does not.
    """
    from detectron2.utils.events import EventStorage

    losses = []
    for model in (theirs, ours):
        seed(1)
        with EventStorage(), nms_of_double_scores():
            losses.append(model.double().train()(draw_batch(5, widest=128)))
        sum(losses[-1].values()).backward()
    wanted, got = ({name: float(value) for name, value in each.items()} for each in losses)
    assert len(got) == num_losses
    assert_same_losses(got, wanted)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, theirs_name in their_names(theirs, ours).items():
        difference = dict(ours.named_parameters())[name].grad - gradients[theirs_name]
        # some biases have no effect: theirs are rounding errors
        used = float(difference.norm() / (tolerance * gradients[theirs_name].norm() + 1e-8))
        record("float64", used)
        assert used <= 1, name


def assert_equal_detections(theirs: nn.Module, ours: nn.Module) -> None:
    """Boxes, classes, scores and masks of one seeded batch."""
    seed(2)
    samples = [
        {key: value for key, value in sample.items() if key != "instances"} for sample in draw_batch(5, widest=128)
    ]
    with torch.no_grad():
        wanted, got = (model.eval()(samples) for model in (theirs, ours))
    for one, other in zip(wanted, got, strict=True):
        one, other = one["instances"], other["instances"]
        assert len(one) == len(other) > 0
        assert torch.equal(one.pred_classes, other.pred_classes) and torch.equal(one.pred_masks, other.pred_masks)
        assert_same_maps([other.pred_boxes.tensor, other.scores], [one.pred_boxes.tensor, one.scores])
