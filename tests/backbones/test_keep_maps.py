"""Backbones without the layers of maps that nobody reads: what is left, what it computes, and what it loads."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from registered import BACKBONE_ARGUMENTS, BACKBONE_HOSTS
from torch import nn
from versions import EXPORTS

from fpn_plugins import BACKBONES, FeatureSpec, Pyramid, Swin
from fpn_plugins.features import check_pyramid

IMAGE = (2, 3, 75, 97)
MORE = {
    "TimmBackbone": {"output_norm": "LN", "gradient_checkpointing": True},
    "ViT": {"out_block_indices": (0, 1)},
    "ImagePyramid": {"backbone": {"type": "Swin", **BACKBONE_ARGUMENTS["Swin"]}},
}
ARGUMENTS = {name: {**found, **MORE.get(name, {})} for name, found in BACKBONE_ARGUMENTS.items()}
NAMES = [pytest.param(name, marks=BACKBONE_HOSTS.get(name, ())) for name in sorted(BACKBONES)]


def build(name: str, **arguments: Any) -> Any:
    return BACKBONES[name](**{**ARGUMENTS[name], **arguments})


def read_positions(number: int) -> list[list[int]]:
    """Return all maps but the first, all but the last, the last, the first, and one in the middle."""
    chosen = [list(range(1, number)), list(range(number - 1)), [number - 1], [0], [number // 2]]
    return [list(found) for found in sorted({tuple(found) for found in chosen if found})]


@pytest.mark.parametrize("name", NAMES)
def test_read_maps_stay_and_every_parameter_that_is_left_gets_a_gradient(name: str):
    whole = build(name).eval()
    with torch.no_grad():
        for p in whole.parameters():
            p += 0.01 * torch.randn_like(p)
    image = torch.randn(IMAGE)
    maps = whole(image)
    for kept in read_positions(len(maps)):
        part = copy.deepcopy(whole)
        part.keep_maps(kept)
        found = part(image)
        assert_same_maps([found[index] for index in kept], [maps[index] for index in kept], tolerance=0)
        check_pyramid(found, whole.feature_specs, IMAGE[-2:])
        assert part.feature_specs == whole.feature_specs
        assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(found, maps, strict=True))
        inside = {f"{name}.{key}" for name, child in part.named_children() for key in getattr(child, "left_out", ())}
        assert set(whole.state_dict()) - set(part.state_dict()) <= part.left_out | inside
        sum(found[index].square().mean() for index in kept).backward()
        assert [key for key, p in part.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_whole_network_and_its_own_load(name: str, caplog: pytest.LogCaptureFixture):
    whole = build(name)
    number = len(whole.feature_specs)
    for kept in read_positions(number):
        part = build(name)
        part.keep_maps(kept)
        caplog.clear()
        with caplog.at_level(logging.INFO, "fpn_plugins"):
            assert str(part.load_state_dict(whole.state_dict())) == "<All keys matched successfully>"
        assert all(value.equal(whole.state_dict()[key]) for key, value in part.state_dict().items())
        left_out = set(part.state_dict()) < set(whole.state_dict())
        assert left_out == ("has no layers for maps that are not read" in caplog.text)
        twin = pickle.loads(pickle.dumps(part))
        twin.load_state_dict(part.state_dict())
        nested = nn.ModuleDict({"backbone": part})
        nested.load_state_dict({f"backbone.{key}": value for key, value in whole.state_dict().items()})


@pytest.mark.parametrize("layout", ["mmdet", "detectron2", "timm"])
def test_swin_loads_other_layouts_without_the_unread_norm_and_stage(layout: str):
    from fpn_plugins.weights.maps import swin

    whole, part = build("Swin"), build("Swin")
    part.keep_maps([1, 2])
    weights = whole.state_dict()
    foreign, _ = getattr(swin, layout)().inverse().apply(weights)
    part.load_state_dict(foreign)
    found = {
        key: value for key, value in part.state_dict().items() if not (layout == "timm" and key.startswith("norm"))
    }
    assert all(value.equal(weights[key]) for key, value in found.items())
    with pytest.raises((ValueError, RuntimeError), match="only in part|Missing key"):
        part.load_state_dict({key: value for key, value in foreign.items() if "blocks.0" not in key})


@pytest.mark.timm
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet10t", {}),
        ("efficientnet_lite0", {"out_indices": (1, 2, 3)}),
        ("convnext_atto", {"norm": None}),
        ("vit_tiny_patch16_224", {"out_indices": (2, 5, 11), "model_args": {"dynamic_img_size": True}}),
        ("regnety_002", {"norm": "FrozenBN"}),
    ],
)
def test_the_end_of_any_timm_network_is_left_out(name: str, arguments: dict[str, Any]):
    """One of each of timm's ways to return feature maps."""
    whole = BACKBONES["TimmBackbone"](name=name, frozen_stages=0, **arguments).eval()
    part, image = copy.deepcopy(whole), torch.randn(1, 3, 64, 96)
    state = torch.random.get_rng_state()
    part.keep_maps([0, 1])
    assert torch.random.get_rng_state().equal(state)
    maps, found = whole(image), part(image)
    assert_same_maps(found[:2], maps[:2], tolerance=0)
    assert [m.shape for m in found] == [m.shape for m in maps] and not part.training
    frozen = {key for key, p in whole.named_parameters() if not p.requires_grad}
    assert frozen and {key for key, p in part.named_parameters() if not p.requires_grad} <= frozen
    sum(m.square().mean() for m in found[:2]).backward()
    assert [key for key, p in part.named_parameters() if p.requires_grad and p.grad is None] == []
    part.load_state_dict(whole.state_dict())


def frozen(backbone: Any) -> nn.Module:
    return pytest.importorskip("detectron2.layers").FrozenBatchNorm2d.convert_frozen_batchnorm(backbone)


def hooked(backbone: Any) -> nn.Module:
    backbone.model.conv1.register_forward_hook(lambda layer, inputs, output: 2 * output)
    return backbone


@pytest.mark.timm
@pytest.mark.parametrize("change", [nn.SyncBatchNorm.convert_sync_batchnorm, frozen, hooked])
def test_a_timm_network_that_was_changed_stays_as_it_is(change: Any, caplog: pytest.LogCaptureFixture):
    changed = change(build("TimmBackbone")).eval()
    part, kinds = copy.deepcopy(changed), [type(layer) for layer in changed.model.modules()]
    part.keep_maps([0])
    image = torch.randn(IMAGE)
    assert_same_maps(part(image)[:1], changed(image)[:1], tolerance=0)
    assert "was changed after it was built" in caplog.text
    assert [type(layer) for layer in part.model.modules()] == kinds


@pytest.mark.timm
@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "pit_ti_224"])
def test_a_smaller_timm_network_has_the_parameters_themselves(name: str):
    with torch.device("meta"):
        whole = BACKBONES["TimmBackbone"](name=name)
        before = {key: id(value) for key, value in whole.named_parameters()}
        whole.keep_maps([0])
    after = {key: id(value) for key, value in whole.named_parameters()}
    assert len(whole.out_indices) == 1 and after.items() <= before.items()


@pytest.mark.parametrize(
    ("neck", "gone"),
    [
        ({"type": "FPN", "in_indices": (1, 2, 3)}, {"norm0"}),
        ({"type": "PanopticFPN", "in_indices": (1, 2, 3)}, {"norm0"}),
        ({"type": "SingleScale", "in_indices": (2,)}, {"norm0", "norm1", "norm3", "layers.3", "layers.2.downsample"}),
        ({"type": "TopDownPyramid"}, {"norm0", "norm1", "norm2"}),
        ([{"type": "FPN", "in_indices": (1, 2, 3)}, {"type": "BFP", "refine_index": 0}], {"norm0"}),
        ({"type": "FPN"}, set()),
    ],
)
def test_a_pyramid_leaves_out_what_its_neck_does_not_read(neck: Any, gone: set[str]):
    whole = build("Swin")
    pyramid = Pyramid(copy.deepcopy(whole), neck)
    missing = set(whole.state_dict()) - set(pyramid.parts()[0].state_dict())
    assert {key for key in whole.state_dict() if any(key.startswith(f"{part}.") for part in gone)} == missing
    weights = {f"backbone.{key}": value for key, value in whole.state_dict().items()}
    weights |= {key: value for key, value in pyramid.state_dict().items() if key.startswith("neck.")}
    pyramid.load_state_dict(weights)


def test_a_seed_gives_the_same_weights_as_without_leaving_out():
    torch.manual_seed(0)
    plain = Pyramid(build("Swin"), {"type": "FPN"}).state_dict()
    torch.manual_seed(0)
    pruned = Pyramid(build("Swin"), {"type": "FPN", "in_indices": (0, 1, 2, 3)}, out_positions=[0]).state_dict()
    assert all(value.equal(pruned[key]) for key, value in plain.items())
    torch.manual_seed(0)
    one = Pyramid(build("Swin"), {"type": "SingleScale", "in_indices": (1,)}).parts()[0].state_dict()
    assert all(value.equal(plain[f"backbone.{key}"]) for key, value in one.items())


def test_without_a_neck_only_the_returned_maps_have_norms():
    pyramid = Pyramid(build("Swin"), out_positions=[1, 2])
    assert [key for key, _ in pyramid.backbone.named_children() if key.startswith("norm")] == ["norm1", "norm2"]
    assert len(pyramid.backbone.layers) == 3


def test_a_backbone_that_has_lost_layers_is_not_used_for_them_again():
    backbone = build("Swin")
    Pyramid(backbone, {"type": "FPN", "in_indices": (1, 2, 3)})
    Pyramid(backbone, {"type": "FPN", "in_indices": (2, 3)})
    with pytest.raises(ValueError, match=r"the Swin has lost the layers of maps \[0, 1\], .* reads only \[2, 3\]"):
        Pyramid(backbone, {"type": "FPN"})


@pytest.mark.parametrize("name", ["Swin", "MViT", "MultiDepthViT"])
@EXPORTS
def test_what_is_left_compiles_and_exports(name: str):
    pyramid = Pyramid(build(name), {"type": "FPN", "out_channels": 8, "in_indices": (1, 2)}).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = pyramid(image)
        compiled = torch.compile(pyramid, fullgraph=True, backend="eager")(image)
        exported = torch.export.export(pyramid, (image,), strict=False).module()(image)
    assert_same_maps(compiled, maps)
    assert_same_maps(exported, maps)


def test_a_users_neck_may_say_what_it_reads():
    class Last(nn.Module):
        def __init__(self, in_channels: Any) -> None:
            super().__init__()
            self.in_channels, self.read_indices = in_channels, (3,)

        def out_specs(self, in_specs: Any) -> tuple[FeatureSpec, ...]:
            return tuple(in_specs[3:])

        def forward(self, inputs: Any) -> Any:
            return inputs[3:]

    backbone = Swin("swin_tiny_patch4_window7_224", embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    pyramid = Pyramid(backbone, Last([16, 32, 64, 128]))
    assert pyramid.backbone.normed_stages == (3,)
