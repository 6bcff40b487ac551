"""`CorePyramid`: backbone and neck for MMDetection in the package's own vocabulary."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.mmdet, pytest.mark.timm]

BACKBONE = {"type": "TimmBackbone", "name": "mobilenetv2_100", "out_indices": [2, 3, 4]}
NECK = {"type": "FPN", "out_channels": 16, "extra_levels": {"num_levels": 1, "op": "max_pool"}}


def build(**arguments):
    from mmengine.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.CorePyramid", "backbone": BACKBONE, "neck": NECK, **arguments})


def test_init_weights_keeps_the_initialization_of_the_package():
    pyramid = build()
    before = {key: value.clone() for key, value in pyramid.state_dict().items()}
    pyramid.init_weights()
    assert all(value.equal(before[key]) for key, value in pyramid.state_dict().items())
