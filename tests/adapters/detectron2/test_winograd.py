"""Winograd convolutions in networks of Detectron2's own convolutions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.detectron2


def network() -> nn.Module:
    """A convolution with a frozen norm and ReLU, one with a norm alone, one with neither, and a narrow one."""
    from detectron2.layers import Conv2d, FrozenBatchNorm2d

    torch.manual_seed(0)
    frozen = FrozenBatchNorm2d(128)
    frozen.weight.uniform_(0.5, 2)
    frozen.bias.normal_()
    return nn.Sequential(
        Conv2d(128, 128, 3, padding=1, bias=False, norm=frozen, activation=nn.ReLU()),
        Conv2d(128, 128, 3, padding=1, bias=False, norm=nn.GroupNorm(32, 128)),
        Conv2d(128, 128, 3, padding=1),
        Conv2d(128, 8, 3, padding=1),
    )


def outputs_and_gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    (y * torch.linspace(-1, 1, y.shape[-1])).square().sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in model.parameters())]


def test_norms_and_activations_stay_behind_the_convolutions():
    from fpn_plugins.adapters.detectron2 import use_winograd

    plain, x = network(), torch.randn(2, 128, 26, 31)
    fast = copy.deepcopy(plain)
    assert use_winograd(fast) == 3 and use_winograd(fast) == 0
    assert list(fast.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        expected, found = plain(x), fast(x)
        assert not torch.equal(found, expected)  # it was computed otherwise
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        assert fast(x[:0]).shape == (0, 8, 26, 31)
    wanted = outputs_and_gradients(plain, x)
    for one, other in zip(outputs_and_gradients(fast, x), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
    x = x.bfloat16()
    assert torch.equal(fast.bfloat16()(x), plain.bfloat16()(x))


def test_scripted_networks_have_detectron2s():
    from fpn_plugins.adapters.detectron2 import use_winograd

    fast, x = network().eval(), torch.randn(1, 128, 26, 31)
    use_winograd(fast)
    with torch.no_grad():
        expected = fast(x)
        found = torch.jit.script(fast)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_channels_are_checked():
    from fpn_plugins.adapters.detectron2 import use_winograd

    with pytest.raises(ValueError, match="min_channels=0 must be at least 1"):
        use_winograd(nn.Sequential(), min_channels=0)


def test_heads_and_a_resnet_are_turned():
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone import ResNet
    from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
    from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead

    from fpn_plugins.adapters.detectron2 import use_winograd

    mask = MaskRCNNConvUpsampleHead(
        ShapeSpec(channels=128, height=14, width=14), num_classes=2, conv_dims=[128, 128, 128]
    )
    assert use_winograd(mask) == 2
    assert use_winograd(StandardRPNHead(in_channels=128, num_anchors=3)) == 1
    stages = ResNet.make_default_stages(50, norm="FrozenBN")
    assert use_winograd(nn.ModuleList(block for stage in stages for block in stage)) == 3 + 5 + 2
