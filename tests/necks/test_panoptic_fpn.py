"""Panoptic FPN's semantic branch matches both official heads in keys, outputs and gradients; and the neck."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from state_keys import FPN_KEYS, assert_pinned
from torch import Tensor, nn

from fpn_plugins import FPN, FeatureSpec, PanopticFPN, SemanticMerge, level_names
from fpn_plugins.weights.maps import panoptic_fpn as tables

CHANNELS, INNER, CLASSES = 8, 32, 5


def mmdets(start: int = 0, end: int = 4, norm: str | None = "GN") -> nn.Module:
    """Build mmdet's head in double precision."""
    from mmdet.models.seg_heads import PanopticFPNHead

    norm_cfg = {"type": norm, **({"num_groups": 32} if norm == "GN" else {})} if norm else None
    arguments = {"num_stuff_classes": CLASSES - 1, "in_channels": CHANNELS, "inner_channels": INNER}
    return PanopticFPNHead(**arguments, start_level=start, end_level=end, norm_cfg=norm_cfg).double()


def detectron2s(strides: tuple[int, ...] = (4, 8, 16, 32), norm: str = "GN", common_stride: int = 4) -> nn.Module:
    """Build Detectron2's head in double precision."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

    shapes = {f"p{stride.bit_length() - 1}": ShapeSpec(channels=CHANNELS, stride=stride) for stride in strides}
    return SemSegFPNHead(shapes, num_classes=CLASSES, conv_dims=INNER, common_stride=common_stride, norm=norm).double()


def pyramid(height: int, width: int, levels: int = 4) -> list[Tensor]:
    """Build maps whose finest one has ``height`` x ``width`` cells, each half (rounded up) of the previous one."""
    maps = []
    for _ in range(levels):
        maps.append(torch.randn(2, CHANNELS, height, width, dtype=torch.float64, requires_grad=True))
        height, width = -(-height // 2), -(-width // 2)
    return maps


def gradients(output: Tensor, inputs: list[Tensor], module: nn.Module) -> list[Tensor]:
    """Return gradients of inputs and parameters for a loss that weights each cell differently."""
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), [*inputs, *module.parameters()]))


def assert_equal(
    merge: SemanticMerge, predictor: nn.Module, theirs: nn.Module, maps: list[Tensor], wanted: Any
) -> None:
    """Compare logits and gradients with an official head, whose modules register their parameters in the same order."""
    got = predictor(merge(maps))
    assert_same_maps(got, wanted)
    ours = nn.ModuleList([merge, predictor])
    assert_same_gradients(gradients(got, maps, ours), gradients(wanted, maps, theirs))


@pytest.mark.mmdet
@pytest.mark.parametrize(("start", "end"), [(0, 4), (1, 4), (0, 1), (2, 3)])
@pytest.mark.parametrize("norm", ["GN", None])
@given(height=st.integers(1, 4), width=st.integers(1, 4))
def test_matches_mmdet(norm: str | None, start: int, end: int, height: int, width: int) -> None:
    theirs = mmdets(start, end, norm)
    merge = SemanticMerge([CHANNELS] * (end - start), INNER, range(start, end), norm=norm).double()
    own = {key: value for key, value in theirs.state_dict().items() if not key.startswith("conv_logits.")}
    merge.load_state_dict(own)
    maps = pyramid(8 * height, 8 * width)
    wanted = theirs(maps)["seg_preds"]
    assert_equal(merge, theirs.conv_logits, theirs, maps[start:end], wanted)


@pytest.mark.detectron2
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16), (4, 16, 32)])
@pytest.mark.parametrize("norm", ["GN", ""])
@given(height=st.integers(1, 4), width=st.integers(1, 4))
def test_matches_detectron2(norm: str, strides: tuple[int, ...], height: int, width: int) -> None:
    theirs = detectron2s(strides, norm)
    specs = [FeatureSpec(CHANNELS, stride) for stride in strides]
    merge = SemanticMerge.to_stride(specs, 4, INNER, norm=norm).double()
    own = {key: value for key, value in theirs.state_dict().items() if not key.startswith("predictor.")}
    merge.load_state_dict(own)
    maps = [x for x, stride in zip(pyramid(8 * height, 8 * width), (4, 8, 16, 32), strict=True) if stride in strides]
    wanted = theirs.layers(dict(zip(theirs.in_features, maps, strict=True)))
    assert_equal(merge, theirs.predictor, theirs, maps, wanted)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("norm", ["GN", None])
def test_the_key_maps_go_both_ways(norm: str | None) -> None:
    merge = SemanticMerge([CHANNELS] * 4, INNER, norm=norm).state_dict()
    for theirs, table, predictor in (
        (mmdets(norm=norm).state_dict(), tables.mmdet(), "conv_logits."),
        (detectron2s(norm=norm or "").state_dict(), tables.detectron2(["p2", "p3", "p4", "p5"]), "predictor."),
    ):
        branches = {key: value for key, value in theirs.items() if not key.startswith(predictor)}
        renamed, report = table.apply(branches, merge)
        assert report.complete, str(report)
        back, _ = table.inverse().apply(renamed, branches)
        assert set(back) == set(branches)


@given(height=st.integers(1, 40), width=st.integers(1, 40), first=st.integers(0, 2))
def test_any_size_gives_a_map_of_the_finest_size(height: int, width: int, first: int) -> None:
    """Levels are resized to each other, rounded up or down; without a level of the final size, maps are doubled."""
    merge = SemanticMerge([CHANNELS] * (4 - first), INNER, range(first, 4)).double()
    maps = pyramid(height, width)[first:]
    assert merge(maps).shape == (2, INNER, *(side * 2**first for side in maps[0].shape[-2:]))


def test_a_constant_level_stays_constant_on_an_odd_size() -> None:
    """Each branch is resampled to the entire finer map: no cell is padded or cropped."""
    merge = SemanticMerge([CHANNELS] * 2, INNER, norm=None).double()
    for branch in merge.branches:
        nn.init.dirac_(branch[0].conv.weight)
    maps = [torch.zeros(1, CHANNELS, 7, 5).double(), torch.full((1, CHANNELS, 4, 3), 2.0).double()]
    assert_same_maps(merge(maps)[:, :CHANNELS], torch.full((1, CHANNELS, 7, 5), 2.0).double())


def test_the_neck_is_an_fpn_and_the_merge_of_its_levels() -> None:
    neck = PanopticFPN([4, 6, 8], 16, INNER, in_indices=(1, 2), extra_levels={"num_levels": 1})
    maps = [torch.randn(1, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((4, 6, 8))]
    semantic, *levels = neck(maps)
    assert [tuple(m.shape[1:]) for m in (semantic, *levels)] == [(INNER, 8, 12), (16, 8, 12), (16, 4, 6), (16, 2, 3)]
    fpn, merge = FPN([4, 6, 8], 16, in_indices=(1, 2), extra_levels={"num_levels": 1}), SemanticMerge([16, 16], INNER)
    fpn.load_state_dict(neck.fpn.state_dict()), merge.load_state_dict(neck.semantic_merge.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(levels, fpn(maps), strict=True))
    assert torch.equal(semantic, merge(levels[:2]))


def test_specs_name_the_semantic_map() -> None:
    specs = PanopticFPN([4, 6], 16, INNER).out_specs([FeatureSpec(4, 8), FeatureSpec(6, 16)])
    assert specs == (FeatureSpec(INNER, 8), FeatureSpec(16, 8), FeatureSpec(16, 16))
    assert level_names(specs) == ("semantic", "p3", "p4")
    assert all(fine.stride <= coarse.stride for fine, coarse in pairwise(specs))


@pytest.mark.mmdet
def test_a_trained_fpn_goes_into_the_pyramid() -> None:
    """Keys of ours and of mmdet load; the semantic branch stays unchanged."""
    from mmdet.models.necks import FPN as Official

    for theirs in (Official([4, 6], 16, 2), FPN([4, 6], 16)):
        neck = PanopticFPN([4, 6], 16, INNER).double()
        result = neck.load_state_dict(theirs.double().state_dict(), strict=False)
        assert not result.unexpected_keys and all(key.startswith("semantic_merge.") for key in result.missing_keys)
        maps = [torch.randn(1, 4, 8, 8).double(), torch.randn(1, 6, 4, 4).double()]
        assert_same_maps(neck(maps)[1:], theirs(maps))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, r"in_channels=\[\] must list"),
        ({"in_channels": [8, 8], "num_upsamples": [0]}, r"num_upsamples=\[0\] must give .* for each of the 2 maps"),
        ({"in_channels": [8, 8], "num_upsamples": [-1, 0]}, r"num_upsamples=\[-1, 0\] must give"),
        ({"in_channels": [8], "inner_channels": 20}, "needs channels divisible by 32, got 20"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticMerge(**arguments)


def test_strides_that_cannot_be_doubled_to_the_target() -> None:
    with pytest.raises(ValueError, match="stride 6 is not a power of two"):
        SemanticMerge.to_stride([FeatureSpec(8, 6)], 4)
    with pytest.raises(ValueError, match=r"num_upsamples=\[-1, 0\]"):
        SemanticMerge.to_stride([FeatureSpec(8, 4), FeatureSpec(8, 8)], 8)


def test_other_maps_than_it_was_built_for() -> None:
    with pytest.raises(ValueError, match="SemanticMerge was built for in_channels"):
        SemanticMerge([8, 8], INNER)([torch.randn(1, 8, 4, 4)])
    with pytest.raises(TypeError, match="fuson"):
        PanopticFPN([8, 8], fuson="avg")


def test_state_dict_keys_are_pinned():
    parts = ("conv.weight", "norm.weight", "norm.bias")
    branches = {f"semantic_merge.branches.{i}.{k}.{part}" for i in range(4) for k in range(max(i, 1)) for part in parts}
    assert_pinned("PanopticFPN", {f"fpn.{key}" for key in FPN_KEYS} | branches)
