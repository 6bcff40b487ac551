"""DetectoRSResNet matches mmdet's class, with and without feedback, and its convolutions mmcv's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from parity import outputs_and_gradients
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import DetectoRSResNet, FeatureSpec
from fpn_plugins.backbones.atrous import AWSConv2d, SwitchableAtrousConv2d

TINY: dict[str, Any] = {"base_channels": 2}


def randomized(module: nn.Module) -> nn.Module:
    """Draw every parameter and statistic, so that each of them counts."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    for key, value in module.named_buffers():
        if key.endswith(("weight_gamma", "running_var")):
            nn.init.uniform_(value, 0.5, 1.5)
        elif value.is_floating_point():
            nn.init.normal_(value, std=0.1)
    module.double()
    module.eval()  # mmdet's ResNet returns nothing
    return module


def mmdets(**arguments: Any) -> nn.Module:
    from mmdet.models.backbones import DetectoRS_ResNet

    return randomized(DetectoRS_ResNet(depth=50, base_channels=2, stem_channels=2, norm_eval=False, **arguments))


SAC = {"sac": {"type": "SAC", "use_deform": True}, "stage_with_sac": (False, True, True, True)}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"conv_cfg": {"type": "ConvAWS"}, "out_indices": (1, 3)}, {"weight_standardization": True, "out_indices": (1, 3)}),
    ({"conv_cfg": {"type": "ConvAWS"}, **SAC}, {"weight_standardization": True, "switchable_stages": (1, 2, 3)}),
]


@pytest.mark.mmdet
@pytest.mark.parametrize(("theirs", "ours"), CASES, ids=["plain", "standardized", "switchable"])
@pytest.mark.parametrize("feedback", [False, True])
def test_matches_mmdet(theirs: dict[str, Any], ours: dict[str, Any], feedback: bool):
    """Maps and all gradients, also of the feedback, with mmdet's weights as they are."""
    reference = mmdets(**theirs, rfp_inplanes=3 if feedback else None, output_img=not feedback)
    network = DetectoRSResNet(**TINY, **ours, feedback_channels=3 if feedback else None, output_image=not feedback)
    network.double().eval().load_state_dict(reference.state_dict())
    assert list(network.state_dict()) == [key for key in reference.state_dict() if key in network.state_dict()]
    image = torch.randn(2, 3, 75, 97, dtype=torch.double)
    sizes = [(19, 25), (10, 13), (5, 7), (3, 4)]
    maps = [torch.randn(2, 3, *size, dtype=torch.double) for size in sizes] if feedback else []

    class Run(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part

        def forward(self, inputs: list[Tensor]) -> Any:
            return self.part.rfp_forward(inputs[0], inputs[1:]) if feedback else self.part(inputs[0])[1:]

    wanted, wanted_grads = outputs_and_gradients(Run(reference), [image, *maps], allow_unused=True)
    got, grads = outputs_and_gradients(Run(network), [image, *maps], allow_unused=True)
    assert_same_maps(got, wanted)
    inputs = 1 + len(maps)
    assert_same_gradients(grads[:inputs], wanted_grads[:inputs])
    own = dict(zip([key for key, _ in network.named_parameters()], grads[inputs:], strict=True))
    peer = dict(zip([key for key, _ in reference.named_parameters()], wanted_grads[inputs:], strict=True))
    assert_same_gradients(own, {key: peer[key] for key in own})


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("kind", "ours", "arguments"),
    [
        ("ConvAWS", AWSConv2d, {}),
        ("SAC", SwitchableAtrousConv2d, {"use_deform": True}),
        ("SAC", SwitchableAtrousConv2d, {"use_deform": False}),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_match_mmcv(kind: str, ours: type[nn.Module], arguments: dict[str, Any], stride: int):
    from mmcv.cnn import build_conv_layer

    geometry = {"stride": stride, "padding": 1, "bias": False}
    theirs = randomized(build_conv_layer({"type": kind, **arguments}, 4, 6, 3, **geometry))
    own = ours(4, 6, 3, **geometry, **({"deformable": arguments["use_deform"]} if arguments else {})).double()
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 7, 5, dtype=torch.double)
    assert_same_maps(own(x), theirs(x))


@pytest.mark.parametrize("kind", [AWSConv2d, SwitchableAtrousConv2d])
def test_weights_of_a_usual_convolution_keep_their_meaning(kind: type[nn.Module]):
    usual = nn.Conv2d(4, 6, 3, padding=1, bias=False).double()
    conv = kind(4, 6, 3, padding=1, bias=False).double()
    conv.load_state_dict(usual.state_dict())
    for size in ((7, 5), (1, 2)):
        x = torch.randn(2, 4, *size, dtype=torch.double)
        assert_same_maps(conv(x), usual(x))


def test_a_plain_resnets_weights_change_nothing():
    """A network with all options, loaded with the weights of a plain one and its classifier, computes the same."""
    plain = DetectoRSResNet(**TINY)
    state = {**plain.state_dict(), "fc.weight": torch.ones(3, 64), "fc.bias": torch.ones(3)}
    options = {"weight_standardization": True, "switchable_stages": (1, 2, 3), "feedback_channels": 4}
    full = DetectoRSResNet(**TINY, **options)
    full.load_weights(state)
    x, feedback = torch.randn(1, 3, 64, 64), [torch.randn(1, 4, 16 >> k, 16 >> k) for k in range(4)]
    for network in (plain, full):
        network.double().eval()
    wanted = plain(x.double())
    assert_same_maps(full(x.double()), wanted, tolerance=1e-6)  # the moments are single precision
    assert_same_maps(full.rfp_forward(x.double(), [m.double() for m in feedback]), wanted, tolerance=1e-6)


def test_maps_and_stages():
    network = DetectoRSResNet(**TINY, out_indices=(1, 3), output_image=True, frozen_stages=1, norm_eval=True)
    assert network.feature_specs == (FeatureSpec(3, 1), FeatureSpec(16, 8), FeatureSpec(64, 32))
    x = torch.randn(1, 3, 65, 40)
    maps = network(x)
    assert maps[0] is x and [tuple(m.shape[1:]) for m in maps[1:]] == [(16, 9, 5), (64, 3, 2)]
    frozen = {key.split(".")[0] for key, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert not any(m.training for m in network.train().modules() if isinstance(m, nn.BatchNorm2d))
    network.keep_maps([0, 1])
    assert not hasattr(network, "layer3") and network(x)[2].shape == (1, 64, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, "depth=18 must be one of [50, 101, 152]"),
        ({"out_indices": (4,)}, "out_indices=[4] must be ascending positions among the stages"),
        ({"switchable_stages": (2, 1)}, "switchable_stages=[2, 1] must be ascending positions"),
        ({"base_channels": 0}, "base_channels=0 must be at least 1"),
        ({"norm": "XN"}, "norm='XN' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        DetectoRSResNet(**{**TINY, **arguments})
