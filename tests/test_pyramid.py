"""`Pyramid`: backbone + neck, and the adapters that build on it, with the same keys, maps and pixels in every host."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN, FeatureSpec, Pyramid, TimmBackbone
from fpn_plugins.testing import assert_same_pyramid

BACKBONE = {"type": "TimmBackbone", "name": "mobilenetv2_100", "out_indices": [2, 3, 4]}
NECK = {"type": "FPN", "out_channels": 16, "extra_levels": {"num_levels": 1, "op": "max_pool"}}
IMAGE = (1, 3, 67, 93)

timm = pytest.mark.timm


class Shallow(nn.Module):
    """A user's own backbone: two strided convolutions."""

    feature_specs = (FeatureSpec(4, 4), FeatureSpec(6, 8))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stage = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return x, self.stage(x)


@timm
def test_wires_the_neck_from_the_backbone():
    pyramid = Pyramid(BACKBONE, NECK).double().eval()
    backbone = TimmBackbone("mobilenetv2_100", out_indices=[2, 3, 4])
    neck = FPN([spec.channels for spec in backbone.feature_specs], 16, extra_levels=NECK["extra_levels"])
    backbone.load_state_dict(pyramid.parts()[0].state_dict())
    neck.load_state_dict(pyramid.parts()[1].state_dict())
    image = torch.randn(IMAGE, dtype=torch.double)
    maps = pyramid(image)
    assert isinstance(maps, tuple) and [spec.stride for spec in pyramid.feature_specs] == [8, 16, 32, 64]
    assert_same_pyramid(maps, neck.double().eval()(backbone.double().eval()(image)), tolerance=0)


@timm
def test_without_a_neck_returns_the_backbones_maps():
    pyramid = Pyramid(BACKBONE).eval()
    image = torch.randn(IMAGE)
    assert pyramid.parts()[1] is None
    assert_same_pyramid(pyramid(image), pyramid.parts()[0](image), tolerance=0)


def test_takes_a_users_own_backbone_and_necks_one_after_the_other():
    necks = [{"type": "FPN", "out_channels": 8}, {"type": "BFP", "refine_index": 0}]
    pyramid = Pyramid(Shallow(), necks)
    assert [feature.shape[1:] for feature in pyramid(torch.zeros(1, 3, 32, 48))] == [(8, 8, 12), (8, 4, 6)]


@timm
def test_states_the_pixels_of_its_backbone():
    pyramid = Pyramid(BACKBONE, NECK)
    assert pyramid.pixel_mean == TimmBackbone("mobilenetv2_100").pixel_mean
    assert pyramid.pixel_std == TimmBackbone("mobilenetv2_100").pixel_std


def test_states_imagenet_pixels_for_a_backbone_that_states_none():
    assert Pyramid(Shallow(), NECK).pixel_mean == [123.675, 116.28, 103.53]


@timm
def test_returns_the_chosen_maps():
    whole, one = Pyramid(BACKBONE, NECK).eval(), Pyramid(BACKBONE, NECK, out_positions=[1, 3]).eval()
    one.load_state_dict(whole.state_dict())
    image = torch.randn(IMAGE)
    maps = whole(image)
    assert_same_pyramid(one(image), (maps[1], maps[3]), tolerance=0)
    assert [spec.stride for spec in one.feature_specs] == [16, 64]


def test_channels_last_changes_the_layout_alone():
    plain, last = Pyramid(Shallow(), NECK).double(), Pyramid(Shallow(), NECK, channels_last=True).double()
    last.load_state_dict(plain.state_dict())
    image = torch.randn(IMAGE, dtype=torch.double)
    maps = last(image)
    assert_same_pyramid(maps, plain(image), tolerance=1e-12)
    assert all(feature.is_contiguous(memory_format=torch.channels_last) for feature in maps)


def test_autocast_computes_in_less_precision_and_returns_single():
    plain, reduced = Pyramid(Shallow(), NECK), Pyramid(Shallow(), NECK, autocast="bfloat16")
    reduced.load_state_dict(plain.state_dict())
    image = torch.randn(IMAGE)
    maps, wanted = reduced(image), plain(image)
    assert all(feature.dtype == torch.float32 for feature in maps)
    assert_same_pyramid(maps, wanted, tolerance=0.2)
    assert not maps[0].equal(wanted[0])


@pytest.mark.parametrize("positions", [3, "01", [0.7], [None], [True]])
def test_refuses_positions_that_are_not_integers(positions: Any):
    with pytest.raises(TypeError, match=r"out_positions=.* must be a sequence of integers"):
        Pyramid(Shallow(), NECK, out_positions=positions)


@pytest.mark.parametrize("positions", [[4], [1, 0], [0, 0], [], [-1]])
def test_refuses_positions_that_are_not_ascending_positions_of_its_maps(positions: list[int]):
    with pytest.raises(ValueError, match=r"out_positions=.* must be ascending positions of its maps \(0..2\)"):
        Pyramid(Shallow(), NECK, out_positions=positions)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"autocast": "int8"}, ValueError, "autocast='int8' is unknown"),
        ({"neck": "FPN"}, TypeError, "neck='FPN' must be a neck"),
        ({"backbone": "resnet50"}, TypeError, "backbone='resnet50' must be a backbone"),
        ({"backbone": nn.Conv2d(3, 4, 1)}, TypeError, "Conv2d publishes no feature_specs"),
        (
            {"neck": FPN([5, 6], 8)},
            ValueError,
            r"in_channels=\[5, 6\] but the module before it publishes channels \[4, 6\]",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Pyramid(**{"backbone": Shallow(), "neck": NECK, **arguments})


def test_pickles_and_copies():
    pyramid, image = Pyramid(Shallow(), NECK), torch.randn(IMAGE)
    for twin in (copy.deepcopy(pyramid), pickle.loads(pickle.dumps(pyramid))):
        assert_same_pyramid(twin(image), pyramid(image), tolerance=0)


# ------------------------------------------------------------------------------------------------------- the adapters


def in_mmdet(**arguments: Any) -> nn.Module:
    from mmengine.registry import MODELS

    neck = {"type": "FPN", "out_channels": 16, "num_outs": 4}
    return MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": BACKBONE, "neck": neck, **arguments})


def in_mmdet_by_the_cores_arguments(**arguments: Any) -> nn.Module:
    from mmengine.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.CorePyramid", "backbone": BACKBONE, "neck": NECK, **arguments})


def in_detectron2(**arguments: Any) -> nn.Module:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    return PyramidBackbone(BACKBONE, NECK, **arguments)


def in_torchvision(**arguments: Any) -> nn.Module:
    from fpn_plugins.adapters.torchvision import PyramidBackbone

    return PyramidBackbone(BACKBONE, NECK, **arguments)


# builder, and the prefixes that its state dict has in place of `backbone.` and `neck.`
ADAPTERS = [
    pytest.param(in_mmdet, ("backbone", "neck"), marks=pytest.mark.mmdet, id="mmdet"),
    pytest.param(in_mmdet_by_the_cores_arguments, ("backbone", "neck"), marks=pytest.mark.mmdet, id="mmdet-core"),
    pytest.param(in_detectron2, ("bottom_up", "neck"), marks=pytest.mark.detectron2, id="detectron2"),
    pytest.param(in_torchvision, ("body", "fpn"), marks=pytest.mark.torchvision, id="torchvision"),
]


@timm
@pytest.mark.parametrize(("build", "prefixes"), ADAPTERS)
def test_every_adapter_is_a_pyramid_with_the_hosts_keys(build: Callable[..., nn.Module], prefixes: tuple[str, str]):
    core = Pyramid(BACKBONE, NECK, out_positions=[0, 2]).double().eval()
    adapter: Any = build(out_positions=[0, 2]).double().eval()
    names = dict(zip(("backbone", "neck"), prefixes, strict=True))
    weights = {}
    for key, value in core.state_dict().items():
        part, rest = key.split(".", 1)
        weights[f"{names[part]}.{rest}"] = value
    assert isinstance(adapter, Pyramid) and adapter.feature_specs == core.feature_specs
    assert list(adapter.state_dict()) == list(weights)
    adapter.load_state_dict(weights)
    image = torch.randn(IMAGE, dtype=torch.double)
    with torch.no_grad():
        found = adapter(image)
        found = tuple(found.values()) if isinstance(found, dict) else found
        assert_same_pyramid(found, core(image), tolerance=1e-12)
    assert adapter.pixel_mean == core.pixel_mean and adapter.pixel_std == core.pixel_std


@timm
@pytest.mark.parametrize(("build", "prefixes"), ADAPTERS)
def test_every_adapter_takes_the_pyramids_options(build: Callable[..., nn.Module], prefixes: tuple[str, str]):
    adapter: Any = build(channels_last=True, autocast="bfloat16").eval()
    assert adapter.channels_last and adapter.autocast_dtype is torch.bfloat16
    with torch.no_grad():
        found = adapter(torch.randn(IMAGE))
    assert all(f.dtype == torch.float32 for f in (found.values() if isinstance(found, dict) else found))


@timm
@pytest.mark.mmdet
def test_mmdet_applies_several_necks_or_none():
    necks = [{"type": "FPN", "out_channels": 16, "num_outs": 4}, {"type": "BFP", "refine_level": 1}]
    several: Any = in_mmdet(neck=necks)
    assert [type(neck).__name__ for neck in several.neck] == ["FPN", "BFP"]
    assert [spec.channels for spec in several.feature_specs] == [16] * 4
    assert [spec.channels for spec in in_mmdet(neck=None).feature_specs] == [32, 96, 320]  # type: ignore[union-attr]


@pytest.mark.detectron2
def test_detectron2_yaml_takes_a_users_own_backbone():
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins import BACKBONES, register_backbone
    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    register_backbone(Shallow)
    try:
        cfg = get_cfg()
        add_fpn_plugins_config(cfg)
        cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_backbone"
        cfg.MODEL.FPN_PLUGINS.BACKBONE.TYPE = "Shallow"
        cfg.MODEL.FPN_PLUGINS.NECK.ARGS.out_channels = 8
        assert list(build_backbone(cfg)(torch.zeros(1, 3, 32, 48))) == ["p2", "p3"]
    finally:
        del BACKBONES["Shallow"]
