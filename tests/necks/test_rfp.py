"""RFP matches mmdet's class on DetectoRS's networks; in the core, with every toolbox's backbone; keys and errors."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from parity import outputs_and_gradients
from precision import assert_same_gradients, assert_same_maps
from registered import in_specs
from seeds import seed
from state_keys import assert_pinned, conv_keys
from torch import nn

from fpn_plugins import RFP, DetectoRSResNet, FeatureSpec, Pyramid
from fpn_plugins.necks.fpn import FPN
from fpn_plugins.necks.rfp import ASPP, SMALL_BACKBONE
from fpn_plugins.testing import make_pyramid

SPECS = in_specs("RFP")
CHANNELS = [spec.channels for spec in SPECS]
ARGUMENTS: dict[str, Any] = {"out_channels": 16, "aspp_channels": 4, "backbone": SMALL_BACKBONE}
BACKBONE = {"type": "DetectoRSResNet", "base_channels": 2, "output_image": True}


# ------------------------------------------------------------------------------------------------------------ mmdet


def pair(**changes: Any) -> tuple[nn.Module, nn.Module]:
    """Build mmdet's neck and ours from one config, each with mmdet's recursive backbones, initialized from one seed."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    network = {"type": "DetectoRS_ResNet", "depth": 50, "base_channels": 2, "stem_channels": 2, "rfp_inplanes": 8}
    config: dict[str, Any] = {"rfp_steps": 2, "rfp_backbone": network, "aspp_out_channels": 2}
    config |= {"in_channels": CHANNELS[1:], "out_channels": 6, "num_outs": 5, **changes}
    built = []
    for kind in ("RFP", "fpn_plugins.RFP"):
        built.append(MODELS.build({"type": kind, **config}))
        seed(3)
        built[-1].init_weights()
    return built[0], built[1]


@pytest.mark.mmdet
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rfp_steps": 3, "add_extra_convs": "on_output", "norm_cfg": {"type": "BN"}, "num_outs": 6},
        {"aspp_dilations": (1, 2, 1), "aspp_out_channels": 4, "num_outs": 4},
    ],
    ids=["default", "three steps", "three branches"],
)
def test_matches_mmdet(changes: dict[str, Any]):
    if "aspp_dilations" in changes:
        network = {"type": "mmdet.DetectoRS_ResNet", "depth": 50, "base_channels": 2, "stem_channels": 2}
        changes = {**changes, "rfp_backbone": {**network, "rfp_inplanes": 12, "conv_cfg": {"type": "ConvAWS"}}}
    theirs, ours = (neck.double().eval() for neck in pair(**changes))
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    maps = list(make_pyramid(SPECS, (75, 97), 2, seed=1, dtype=torch.double))
    wanted, wanted_grads = outputs_and_gradients(theirs, maps, allow_unused=True)
    got, grads = outputs_and_gradients(ours, maps, allow_unused=True)
    assert_same_maps(got, wanted)
    inputs = len(maps)
    assert_same_gradients(grads[:inputs], wanted_grads[:inputs])
    totals = [sorted(float(g.square().sum()) for g in found[inputs:]) for found in (grads, wanted_grads)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


@pytest.mark.mmdet
def test_one_seed_gives_the_same_weights():
    theirs, ours = pair()
    wanted = {key: value for key, value in theirs.state_dict().items() if "aspp" not in key}  # drawn by PyTorch
    ours_state = ours.state_dict()
    ours.load_state_dict(theirs.state_dict())
    loaded = ours.state_dict()
    unequal = [k for k, value in loaded.items() if not k.startswith("aspp") and not torch.equal(ours_state[k], value)]
    assert unequal == [] and len(wanted) == len(loaded) - 8


@pytest.mark.mmdet
def test_every_argument_and_default_matches_mmdet():
    from mmdet.registry import MODELS

    pair()
    kinds = [MODELS.get(name) for name in ("RFP", "FPN", "fpn_plugins.RFP")]
    rfp, fpn, ours = (inspect.signature(kind.__init__).parameters for kind in kinds)
    theirs = {**fpn, **rfp}
    del theirs["kwargs"]
    assert set(theirs) == set(ours) - {"more", "image_channels"}
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())
    with pytest.raises(ValueError, match="RFP initializes itself"):
        kinds[2](2, {}, 4, init_cfg={"type": "Normal"}, in_channels=[4, 8], out_channels=4, num_outs=2)
    with pytest.raises(ValueError, match="start_level=1, end_level=-1: RFP uses all maps"):
        kinds[2](2, {}, 4, in_channels=[4, 8], out_channels=4, num_outs=2, start_level=1)


# ------------------------------------------------------------------------------------------------- what it computes


def test_a_pyramid_recurs_as_the_paper_draws_it():
    """One step by hand, from the image."""
    pyramid = Pyramid(BACKBONE, {"type": "RFP", **ARGUMENTS, "extra_levels": {"num_levels": 1}}).double().eval()
    for p in pyramid.neck.parameters():
        nn.init.normal_(p, std=0.2)
    neck, image = pyramid.neck, torch.randn(1, 3, 75, 64, dtype=torch.double)
    first = neck.fpn(pyramid.backbone(image)[1:])
    second = neck.fpn(neck.backbones[0].rfp_forward(image, [neck.aspp(x) for x in first[:4]]))
    gates = [neck.gate(y).sigmoid() for y in second]
    wanted = [g * y + (1 - g) * x for g, y, x in zip(gates, second, first, strict=True)]
    assert_same_maps(pyramid(image), wanted)
    assert [spec.stride for spec in pyramid.feature_specs] == [4, 8, 16, 32, 64]


def test_one_step_is_an_fpn():
    neck = RFP(CHANNELS, SMALL_BACKBONE, 16, num_steps=1)
    maps = make_pyramid(SPECS, (64, 96), 1)
    fpn = FPN(CHANNELS[1:], 16)
    fpn.load_state_dict(neck.fpn.state_dict())
    assert_same_maps(neck(maps), fpn(maps[1:]), tolerance=0)
    assert all(key.startswith("fpn.") for key in neck.state_dict())


def test_every_step_has_a_backbone_of_its_own():
    built = []

    def factory() -> nn.Module:
        built.append(DetectoRSResNet(base_channels=2, feedback_channels=16))
        return built[-1]

    neck = RFP(CHANNELS, factory, 16, num_steps=3, aspp_channels=4)
    assert list(neck.backbones) == built and len(built) == 2


def test_aspp_joins_its_branches():
    aspp = ASPP(4, 3, (1, 2, 1))
    x = torch.randn(2, 4, 5, 6)
    wanted = [aspp.convs[0](x).relu(), nn.functional.conv2d(x, *aspp.convs[1].parameters(), 1, 2, 2).relu()]
    wanted.append(aspp.convs[2](x.mean((2, 3), keepdim=True)).relu().expand(2, 3, 5, 6))
    assert_same_maps(aspp(x), torch.cat(wanted, 1))


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": [3, 8]}, ValueError, "in_channels=[3, 8] must list the image's channels"),
        ({"in_indices": (1, 2)}, ValueError, "in_indices: RFP uses all maps"),
        ({"num_steps": 0}, ValueError, "num_steps=0 must be at least 1"),
        ({"aspp_dilations": (1, 3)}, ValueError, "aspp_dilations=[1, 3] must end with 1"),
        ({"aspp_channels": 5}, ValueError, "feedback_channels=20, those of the ASPP"),
        ({"backbone": {**SMALL_BACKBONE, "base_channels": 3}}, ValueError, "must return maps of [8, 16, 32, 64]"),
        ({"backbone": {"type": "ResNet"}}, ValueError, "backbone type='ResNet' is unknown"),
        ({"backbone": "DetectoRSResNet"}, TypeError, "backbone='DetectoRSResNet' must be a mapping"),
        ({"backbone": nn.Identity()}, TypeError, "must be a mapping such as"),
        ({"backbone": nn.Identity}, TypeError, "has no rfp_forward(image, feedback)"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], error: Any, message: str):
    with pytest.raises(error, match=re.escape(message)):
        RFP(**{"in_channels": CHANNELS, **ARGUMENTS, **arguments})


def test_a_backbone_without_the_image_is_named():
    with pytest.raises(ValueError, match="RFP reads the image as the first map.*output_image=True"):
        RFP([8, 16, 32], lambda: None, num_steps=1).out_specs([FeatureSpec(8 << k, 4 << k) for k in range(3)])


def test_state_dict_keys_are_pinned():
    fpn = conv_keys(*(f"fpn.{kind}_convs.{i}" for kind in ("lateral", "output") for i in range(4)))
    names = ("gate", *(f"aspp.convs.{j}" for j in range(4)))
    plain = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    inner = DetectoRSResNet(**{key: value for key, value in SMALL_BACKBONE.items() if key != "type"}).state_dict()
    assert_pinned("RFP", fpn | plain | {f"backbones.0.{key}" for key in inner})


def test_maps_that_do_not_fit_the_image_are_named():
    neck = RFP(CHANNELS, **ARGUMENTS)
    image, *maps = make_pyramid(SPECS, (64, 64), 1)
    with pytest.raises(
        ValueError, match=r"feedback for stage 1 has \(8, 8\) cells, but an image of \(66, 64\) has \(9"
    ):
        neck([torch.randn(1, 3, 66, 64), *maps])
