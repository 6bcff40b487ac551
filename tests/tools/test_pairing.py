"""Pairing two implementations by the order of their tensors."""

from __future__ import annotations

import pytest
import torch
from precision import assert_same_maps
from synthetic.pretrained import pair_by_order

from fpn_plugins import TimmBackbone


@pytest.mark.timm
@pytest.mark.torchvision
def test_torchvision_mobilenet_v2_paired_with_timm_gives_the_same_maps():
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that a wrong pairing could not get away with
            module.running_mean.normal_(std=0.1), module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5), module.bias.data.normal_(std=0.1)
    backbone = TimmBackbone("mobilenetv2_100", out_indices=(0, 1, 2, 3, 4)).eval()
    renamed, left_over = pair_by_order(theirs.state_dict(), backbone.state_dict())
    backbone.load_state_dict(renamed)
    assert left_over[-2:] == ["classifier.1.weight", "classifier.1.bias"]
    assert all(key.startswith(("features.18.", "classifier.")) for key in left_over)

    x = torch.randn(1, 3, 65, 50, dtype=torch.double)
    theirs.double(), backbone.double()
    expected = []
    with torch.no_grad():
        maps, run = backbone(x), x
        for index, block in enumerate(theirs.features):
            run = block(run)
            if index in (1, 3, 6, 13, 17):  # the last block of each stride
                expected.append(run)
    assert_same_maps(maps, expected)


def test_left_over_keys_of_the_end_are_returned_in_order():
    source = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(4), "d": torch.zeros(5)}
    target = {"x": torch.zeros(2), "y": torch.zeros(3)}
    renamed, left_over = pair_by_order(source, target)
    assert list(renamed) == ["x", "y"] and renamed["x"] is source["a"] and renamed["y"] is source["b"]
    assert left_over == ["c", "d"]


def test_a_short_source_is_refused():
    with pytest.raises(ValueError, match="the checkpoint has 1 tensors, the model needs 2"):
        pair_by_order({"a": torch.zeros(2)}, {"x": torch.zeros(2), "y": torch.zeros(2)})


def test_a_pair_of_other_shape_is_named():
    source = {"a": torch.zeros(2), "b": torch.zeros(3, 4)}
    target = {"x": torch.zeros(2), "y": torch.zeros(4, 3)}
    message = r"tensor 1 does not fit: 'b' is \(3, 4\), 'y' needs \(4, 3\).*another architecture"
    with pytest.raises(ValueError, match=message):
        pair_by_order(source, target)
