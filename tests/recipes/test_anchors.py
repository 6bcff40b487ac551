"""Anchors that are fitted to boxes: what they reach, and that both toolboxes round them alike."""

from __future__ import annotations

import numpy as np
import pytest

from fpn_plugins.recipes import Anchors, fit_anchors
from fpn_plugins.recipes.anchors import detectron2_sides, mmdet_sides


def boxes(seed: int, middle: float = 40.0) -> np.ndarray:
    """Widths and heights of 300 boxes."""
    draw = np.random.default_rng(seed)
    widths = np.exp(draw.normal(np.log(middle), 0.7, 300))
    return np.stack([widths, widths * np.exp(draw.normal(0.2, 0.3, 300))])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("per_octave", [1, 3])
def test_both_toolboxes_round_them_alike(seed: int, per_octave: int):
    anchors = fit_anchors(*boxes(seed), per_octave=per_octave)
    assert np.array_equal(mmdet_sides(anchors), detectron2_sides(anchors))


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_both_toolboxes_generators_agree_bitwise():
    import torch
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    anchors = fit_anchors(*boxes(0))
    ratios, strides = list(anchors.ratios), list(anchors.strides)
    scale = {"octave_base_scale": anchors.scale, "scales_per_octave": anchors.per_octave}
    theirs = AnchorGenerator(strides=strides, ratios=ratios, **scale).base_anchors
    others = DefaultAnchorGenerator(sizes=anchors.sizes, aspect_ratios=[ratios], strides=strides, offset=0.0)
    for first, second in zip(theirs, others.cell_anchors, strict=True):
        by_ratio = first.view(len(ratios), anchors.per_octave, 4)  # mmdet has the sizes of a ratio together
        assert torch.equal(by_ratio.transpose(0, 1).reshape(-1, 4), second)


def test_levels_span_the_objects():
    sides = np.array([[16.0, 64.0, 128.0]] * 2)
    anchors = fit_anchors(*sides)
    assert anchors.strides[0] == 8 and anchors.ratios == (1.0,)
    sizes = anchors.sizes
    assert sizes[0][0] <= 16 * 2**0.5 and sizes[-1][-1] >= 128 / 2**0.5
    # objects of less than 1.5 strides of P3 need P2
    assert fit_anchors(sides[0] / 2, sides[1] / 2).strides[0] == 4
    # and huge ones anchors of at most 8 strides on five levels
    assert fit_anchors(*(50 * sides)) == Anchors((8, 16, 32, 64, 128), 8.0, 3, (1.0,))


def test_one_size_an_octave_is_the_one_of_most_overlap():
    """Boxes between two sizes overlap both by half, which trains no proposals."""
    for side in (40.0, 48.0, 57.0, 64.0, 72.0):
        boxes_of_one_size = np.full(50, side)
        anchors = fit_anchors(boxes_of_one_size, boxes_of_one_size, per_octave=1, first_level=2)
        nearest = min(abs(np.log2(size / side)) for (size,) in anchors.sizes)
        assert nearest < 1 / 16
    # small objects keep an anchor that overlaps them by half, though the large ones' best side would leave them none
    sides = np.array([17.0] * 20 + [49.5] * 80)
    sizes = [size for (size,) in fit_anchors(sides, sides, per_octave=1, first_level=2).sizes]
    assert min(abs(np.log2(size / 17)) for size in sizes) <= 0.5


def test_tall_boxes_have_tall_anchors():
    wide = fit_anchors(np.full(10, 80.0), np.linspace(20, 40, 10))
    tall = fit_anchors(np.linspace(20, 40, 10), np.full(10, 80.0))
    assert len(wide.ratios) == len(tall.ratios) == 3
    assert max(wide.ratios) < 1 < min(tall.ratios)


def test_no_boxes_are_refused():
    with pytest.raises(ValueError, match="has no boxes"):
        fit_anchors(np.zeros(0), np.zeros(0))
