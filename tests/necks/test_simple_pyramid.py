"""SimpleFeaturePyramid matches detectron2's keys, outputs and gradients, and the keys of mmdet's project."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from state_keys import assert_pinned
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, SimpleFeaturePyramid, build_neck
from fpn_plugins.layers import LayerNorm2d

CHANNELS = 16
EXTRA = {"num_levels": 1, "op": "max_pool"}


def detectron2s(scales: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5), norm: str = "LN") -> nn.Module:
    """Build the official pyramid on a network that returns its input, with non-trivial norms."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import Backbone, SimpleFeaturePyramid
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    class Net(Backbone):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"last_feat": x}

        def output_shape(self) -> dict[str, ShapeSpec]:
            return {"last_feat": ShapeSpec(channels=CHANNELS, stride=16)}

    top = LastLevelMaxPool() if scales[-1] == 0.5 else None  # it looks for p5
    pyramid = SimpleFeaturePyramid(Net(), "last_feat", 32, scales, top_block=top, norm=norm)
    for name, p in pyramid.named_parameters():
        if "norm" in name or name.startswith("simfp_2.1."):
            nn.init.normal_(p, 1.0 if name.endswith("weight") else 0.0, 0.3)
    return pyramid


def compare(theirs: nn.Module, ours: nn.Module, size: tuple[int, int]) -> None:
    """Return outputs, and gradients of the input and every parameter (both modules have the same order)."""
    gradients = []
    outputs = []
    x = torch.randn(2, CHANNELS, *size, dtype=torch.double)
    for module in (theirs.double(), ours.double()):
        leaf = x.clone().requires_grad_()
        maps = module(leaf if module is theirs else [leaf])
        maps = list(maps.values() if isinstance(maps, dict) else maps)
        module.zero_grad()
        sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in maps).backward()
        named = {key: p.grad for key, p in module.named_parameters()}
        outputs.append(maps)
        gradients.append((leaf.grad, named))
    assert_same_maps(outputs[1], outputs[0])
    wanted = {"input": gradients[0][0], **renamed(ours, gradients[0][1])}
    assert_same_gradients({"input": gradients[1][0], **gradients[1][1]}, wanted)


def renamed(ours: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename detectron2's keys to ours with the production table."""
    from fpn_plugins.weights.maps.simple_pyramid import SimplePyramidLayouts

    table = SimplePyramidLayouts([len(layers) for layers in ours.resamples])(tensors)[0]
    result, report = table.apply(tensors, dict(ours.named_parameters()))
    assert report.complete, str(report)
    return result


@pytest.mark.detectron2
@settings(max_examples=8)
@given(height=st.integers(2, 13), width=st.integers(2, 13))
@pytest.mark.parametrize("scales", [(4.0, 2.0, 1.0, 0.5), (2.0, 1.0), (1.0, 0.5)])
def test_matches_detectron2(scales: tuple[float, ...], height: int, width: int) -> None:
    theirs = detectron2s(scales)
    extra = EXTRA if scales[-1] == 0.5 else None
    ours = SimpleFeaturePyramid([CHANNELS], 32, scales, extra_levels=extra)
    ours.load_state_dict(theirs.state_dict())
    compare(theirs, ours, (height, width))
    specs = ours.out_specs([FeatureSpec(CHANNELS, 16)])
    assert {f"p{spec.level}": spec for spec in specs} == {
        name: FeatureSpec(shape.channels, shape.stride) for name, shape in theirs.output_shape().items()
    }


@pytest.mark.detectron2
@pytest.mark.parametrize("norm", ["GN", "BN"])
def test_matches_detectron2_with_other_norms(norm: str) -> None:
    """Norms as in detectron2, where GN's 32 groups need at least as many channels at p2."""
    from detectron2.layers import get_norm

    scales = (1.0, 0.5)
    theirs = detectron2s(scales, norm)
    ours = SimpleFeaturePyramid([CHANNELS], 32, scales, EXTRA, norm=lambda channels: get_norm(norm, channels))
    ours.load_state_dict(theirs.state_dict())
    compare(theirs.eval(), ours.eval(), (7, 5))


def mmdets_key(key: str) -> str:
    """Return the name of a detectron2 parameter in mmdet's ``projects/ViTDet``."""
    level, place, rest = re.fullmatch(r"simfp_(\d)\.(\d)\.(.*)", key).groups()
    index, first_conv = int(level) - 2, {"2": 4, "3": 1, "4": 0, "5": 1}[level]
    if int(place) < first_conv:
        return f"fpn{index + 1}.{place}.{rest}"
    kind = "lateral_convs" if int(place) == first_conv else "fpn_convs"
    return f"{kind}.{index}." + (rest.replace("norm.", "norm_layer.") if "norm" in rest else f"conv.{rest}")


@pytest.mark.detectron2
def test_layout_of_mmdet_loads_as_it_is() -> None:
    theirs = detectron2s()
    ours = SimpleFeaturePyramid([CHANNELS], 32, extra_levels=EXTRA)
    weights = {mmdets_key(key): value for key, value in theirs.state_dict().items()}
    assert "lateral_convs.3.norm_layer.weight" in weights and "fpn1.3.bias" in weights
    ours.load_state_dict(weights)
    compare(theirs, ours, (6, 9))


@pytest.mark.detectron2
def test_initial_statistics_match_detectron2() -> None:
    """Every convolution has the bounds of PyTorch's initialization."""
    theirs, ours = detectron2s(), SimpleFeaturePyramid([CHANNELS], 32)
    for key, wanted in renamed(ours, dict(theirs.named_parameters())).items():
        if "norm" not in key and wanted.dim() > 1:
            got = dict(ours.named_parameters())[key]
            assert torch.isclose(got.abs().max(), wanted.abs().max(), rtol=0.1), key


@pytest.mark.mmdet
def test_in_mmdet() -> None:
    """The norm is ours even without a scope and has detectron2's eps; levels are counted as in mmdet."""
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.SimpleFeaturePyramid", "in_channels": [CHANNELS], "out_channels": 32}
    neck = MODELS.build({**config, "num_outs": 5})
    neck.init_weights()
    assert [tuple(m.shape[-2:]) for m in neck([torch.randn(1, CHANNELS, 4, 6)])] == [
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
        (1, 2),
    ]
    norms = [layer for layer in neck.modules() if isinstance(layer, LayerNorm2d)]
    assert len(norms) == 9 and {layer.eps for layer in norms} == {1e-6}
    project = MODELS.build({**config, "num_outs": 4, "norm_cfg": {"type": "LN2d", "requires_grad": True}})
    assert {layer.eps for layer in project.modules() if isinstance(layer, LayerNorm2d)} == {1e-5}
    with pytest.raises(ValueError, match="num_outs=3 is smaller than the 4 levels"):
        MODELS.build({**config, "num_outs": 3})


@pytest.mark.mmdet
def test_ln2d_in_a_head_has_the_name_of_mmdet() -> None:
    """``norm_layer``, as in the published checkpoints of mmdet's project, whose LN2d it replaces."""
    from mmcv.cnn import ConvModule

    import fpn_plugins.registry  # noqa: F401

    module = ConvModule(4, 8, 3, norm_cfg={"type": "fpn_plugins.LN2d", "eps": 1e-6})
    assert set(module.state_dict()) == {"conv.weight", "norm_layer.weight", "norm_layer.bias"}
    assert module(torch.randn(1, 4, 5, 5)).shape == (1, 8, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": [8, 16]}, "built on one map"),
        ({"scale_factors": (4, 1)}, "each be half of the previous one"),
        ({"scale_factors": (3, 1.5)}, "power of two"),
        ({"scale_factors": ()}, "half of the previous one"),
        ({"in_channels": [6]}, "multiple of 4"),
        ({"extra_levels": {"num_levels": 1, "op": "conv", "source": "input"}}, "use source='output'"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**{"in_channels": [CHANNELS], **arguments})


def test_specs_follow_the_stride_of_the_map() -> None:
    neck = build_neck({"type": "SimpleFeaturePyramid", "extra_levels": EXTRA}, [FeatureSpec(CHANNELS, 16)])
    assert [spec.stride for spec in neck.out_specs([FeatureSpec(CHANNELS, 16)])] == [4, 8, 16, 32, 64]
    assert [spec.stride for spec in neck.out_specs([FeatureSpec(CHANNELS, 8)])] == [2, 4, 8, 16, 32]
    with pytest.raises(ValueError, match=r"make strides \[0.5, 1.0, 2.0, 4.0\] from the map's 2, .*whole pixels"):
        neck.out_specs([FeatureSpec(CHANNELS, 2)])
    with pytest.raises(ValueError, match=r"make strides \[3.5, 7.0, 14.0, 28.0\] from the map's 14.*patch_size=16"):
        neck.out_specs([FeatureSpec(CHANNELS, 14)])


def test_levels_by_convolutions_on_the_last_output() -> None:
    """What RetinaNet needs: P6 and P7."""
    extra = {"num_levels": 2, "op": "conv", "source": "output"}
    neck = SimpleFeaturePyramid([CHANNELS], 32, (2, 1, 0.5), extra, norm=None)
    maps = neck([torch.randn(1, CHANNELS, 8, 8)])
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2, 1]


def test_state_dict_keys_are_pinned():
    parts = ("conv.weight", "norm.weight", "norm.bias")
    resamples = {f"resamples.{i}.{j}.{p}" for i, j in ((0, 0), (0, 1), (0, 3), (1, 0)) for p in ("weight", "bias")}
    convs = {f"{kind}_convs.{i}.{part}" for kind in ("lateral", "output") for i in range(4) for part in parts}
    assert_pinned("SimpleFeaturePyramid", resamples | convs)
