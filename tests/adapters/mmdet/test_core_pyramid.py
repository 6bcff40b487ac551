"""`CorePyramid`: backbone and neck for MMDetection in the package's own vocabulary."""

from __future__ import annotations

import pytest
import torch

pytestmark = [pytest.mark.mmdet, pytest.mark.timm]

BACKBONE = {"type": "TimmBackbone", "name": "mobilenetv2_100", "out_indices": [2, 3, 4]}
NECK = {"type": "FPN", "out_channels": 16, "extra_levels": {"num_levels": 1, "op": "max_pool"}}


def build(**arguments):
    from mmengine.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.CorePyramid", "backbone": BACKBONE, "neck": NECK, **arguments})


def test_hands_out_the_chosen_maps():
    whole, one = build().eval(), build(out_positions=[1]).eval()
    one.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 64, 96)
    maps, (chosen,) = whole(image), one(image)
    assert [spec.stride for spec in whole.feature_specs] == [8, 16, 32, 64]
    assert [spec.stride for spec in one.feature_specs] == [16]
    assert chosen.equal(maps[1]) and len(maps) == 4


def test_init_weights_keeps_the_package_s_own():
    pyramid = build()
    before = {key: value.clone() for key, value in pyramid.state_dict().items()}
    pyramid.init_weights()
    assert all(value.equal(before[key]) for key, value in pyramid.state_dict().items())


@pytest.mark.parametrize("positions", [[4], [1, 0], [0, 0], []])
def test_refuses_positions_that_are_none(positions: list[int]):
    with pytest.raises(ValueError, match=r"out_positions=.* must be one or more of 0..3, ascending"):
        build(out_positions=positions)
