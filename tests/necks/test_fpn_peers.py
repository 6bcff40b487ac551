"""FPN matches torchvision's, detectron2's and mmdet's own classes."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import randomize
from precision import assert_same_gradients, assert_same_maps
from seeds import generator
from torch import Tensor, nn

from fpn_plugins import FPN, ExtraLevels
from fpn_plugins.weights import KeyMap
from fpn_plugins.weights.maps import fpn as tables

Run = Callable[[nn.Module, list[Tensor]], tuple[Tensor, ...]]
NORMS = (None, "BN", "GN")
C5_LEVELS = ExtraLevels(2, "conv", source="input", relu=True, bare=True)
P5_LEVELS = ExtraLevels(2, "conv", source="output", relu=True, bare=True)


def run_with_gradients(module: nn.Module, run: Run, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return outputs of ``module`` and gradients of its inputs; gradients of the parameters stay in ``.grad``."""
    inputs = [m.clone().requires_grad_() for m in maps]
    outputs = run(module, inputs)
    numbers = generator(1)
    cotangents = [torch.randn(o.shape, generator=numbers, dtype=o.dtype) / o[0, 0].numel() for o in outputs]
    torch.autograd.backward(outputs, cotangents)
    return outputs, [torch.zeros_like(m) if m.grad is None else m.grad for m in inputs]  # None: a skipped input


def assert_parity(ours: nn.Module, theirs: nn.Module, run: Run, table: KeyMap, maps: Sequence[Tensor]) -> None:
    """Load their weights as they are; compare outputs, all gradients and batch statistics."""
    randomize(theirs)
    ours.to(maps[0].dtype), theirs.to(maps[0].dtype)
    ours.load_state_dict(theirs.state_dict())
    outputs, grads = run_with_gradients(ours, lambda module, inputs: module(inputs), maps)
    wanted, wanted_grads = run_with_gradients(theirs, run, maps)
    assert_same_maps(outputs, wanted)

    own_grads = {key: p.grad for key, p in ours.named_parameters()}
    paired, report = table.apply({key: p.grad for key, p in theirs.named_parameters()}, own_grads)
    assert report.complete, str(report)
    assert_same_gradients({**own_grads, "inputs": grads}, {**paired, "inputs": wanted_grads})
    assert_same_maps(dict(ours.state_dict()), table.apply(theirs.state_dict())[0])


@st.composite
def pyramids(draw: st.DrawFn, max_levels: int = 5, divisible: bool = False) -> SimpleNamespace:
    """Draw channels and maps of 1 to ``max_levels`` levels; each side rounds up or down unless ``divisible``."""
    levels = draw(st.integers(1, max_levels))
    channels = draw(st.lists(st.integers(1, 6), min_size=levels, max_size=levels))
    if divisible:
        coarse = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        sizes = [(coarse[0] << k, coarse[1] << k) for k in reversed(range(levels))]
    else:
        sizes = [draw(st.tuples(st.integers(1, 33), st.integers(1, 33)))]
        for _ in range(levels - 1):
            up = draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
            sizes.append(tuple(max(1, (side + extra) // 2) for side, extra in zip(sizes[-1], up, strict=True)))
    norm = draw(st.sampled_from(NORMS))
    numbers = generator(draw(st.integers(0, 99)))
    maps = [torch.randn(2, c, *size, generator=numbers).double() for c, size in zip(channels, sizes, strict=True)]
    return SimpleNamespace(channels=channels, maps=maps, norm=norm, out_channels=32 if norm == "GN" else 4)


# ------------------------------------------------------------------------------------------------------ torchvision


def torchvision_fpn(channels: list[int], out_channels: int, norm: str | None, extra: str | None) -> nn.Module:
    from torchvision.ops import feature_pyramid_network as peer

    extras = {
        None: lambda: None,
        "max_pool": peer.LastLevelMaxPool,
        "c5": lambda: peer.LastLevelP6P7(channels[-1], out_channels),
        "p5": lambda: peer.LastLevelP6P7(out_channels, out_channels),
    }
    norms = {None: None, "BN": nn.BatchNorm2d, "GN": partial(nn.GroupNorm, 32)}
    return peer.FeaturePyramidNetwork(channels, out_channels, extras[extra](), norms[norm])


def run_torchvision(module: nn.Module, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(module(OrderedDict((f"c{index}", x) for index, x in enumerate(inputs))).values())


OUR_EXTRAS = {None: None, "max_pool": ExtraLevels(1), "c5": C5_LEVELS, "p5": P5_LEVELS}


@pytest.mark.torchvision
@given(pyramids(), st.sampled_from([None, "max_pool", "c5", "p5"]))
def test_matches_torchvision(pyramid: SimpleNamespace, extra: str | None):
    if extra == "c5" and pyramid.channels[-1] == pyramid.out_channels:
        extra = "p5"  # torchvision goes by the channels
    theirs = torchvision_fpn(pyramid.channels, pyramid.out_channels, pyramid.norm, extra)
    ours = FPN(pyramid.channels, pyramid.out_channels, extra_levels=OUR_EXTRAS[extra], norm=pyramid.norm)
    assert_parity(ours, theirs, run_torchvision, tables.torchvision(), pyramid.maps)


@pytest.mark.torchvision
@pytest.mark.parametrize("out_channels", [128, 256, 512])
def test_matches_torchvision_at_the_usual_widths_in_single_precision(out_channels: int, make_maps: Callable):
    channels = [64, 128, 256]
    theirs = torchvision_fpn(channels, out_channels, None, None)
    ours = FPN(channels, out_channels)
    ours.load_state_dict(theirs.state_dict())
    maps = make_maps(channels, [(13, 10), (7, 5), (4, 3)], batch=1)
    got = ours(maps)
    assert all(m.shape[1] == out_channels for m in got)
    assert_same_maps(got, run_torchvision(theirs, maps), additions=9 * out_channels + max(channels))


@pytest.mark.torchvision
def test_loads_old_names_of_torchvision():
    """Checkpoints from before torchvision 0.13 lack the convolution's index."""
    theirs = torchvision_fpn([3, 5], 4, None, None)
    old = {re.sub(r"(blocks\.\d)\.0", r"\1", key): value for key, value in theirs.state_dict().items()}
    assert "inner_blocks.0.weight" in old
    ours = FPN([3, 5], 4)
    ours.load_state_dict(old)
    assert torch.equal(ours.lateral_convs[1].conv.weight, theirs.inner_blocks[1][0].weight)


@pytest.mark.torchvision
def test_foreign_names_load_inside_a_detector_and_into_copies():
    """The hook must see the neck's prefix, and a deep copy must load into itself."""
    theirs = torchvision_fpn([3, 5], 4, None, "c5").state_dict()
    ours = FPN([3, 5], 4, extra_levels=C5_LEVELS)
    detector = nn.ModuleDict({"backbone": nn.Conv2d(1, 1, 1), "neck": copy.deepcopy(ours)})
    outer = {"backbone.weight": torch.ones(1, 1, 1, 1), "backbone.bias": torch.ones(1)}
    given = {**outer, **{f"neck.{key}": value for key, value in theirs.items()}}
    keys = list(given)
    detector.load_state_dict(given)
    assert list(given) == keys  # the caller's dict is unchanged
    assert detector["backbone"].bias.item() == 1
    copied = detector["neck"].extra_levels.convs[1].conv.weight
    assert torch.equal(copied, theirs["extra_blocks.p7.weight"])
    assert not torch.equal(ours.extra_levels.convs[1].conv.weight, copied)


# ------------------------------------------------------------------------------------------------------- detectron2


def detectron2_fpn(
    channels: list[int], out_channels: int, norm: str | None = None, extra: str | None = None, fusion: str = "sum"
) -> nn.Module:
    """Build their FPN on a backbone that returns its inputs, the last one of stride 32."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone import Backbone
    from detectron2.modeling.backbone import fpn as peer

    names = [f"res{stage}" for stage in range(6 - len(channels), 6)]

    class Given(Backbone):
        def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
            return dict(zip(names, maps, strict=True))

        def output_shape(self) -> dict[str, Any]:
            return {n: ShapeSpec(channels=c, stride=2 ** int(n[3:])) for n, c in zip(names, channels, strict=True)}

    extras = {
        None: lambda: None,
        "max_pool": peer.LastLevelMaxPool,
        "c5": lambda: peer.LastLevelP6P7(channels[-1], out_channels, "res5"),
        "p5": lambda: peer.LastLevelP6P7(out_channels, out_channels, "p5"),
    }
    return peer.FPN(Given(), names, out_channels, norm or "", extras[extra](), fusion)


def run_detectron2(module: nn.Module, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(module(inputs).values())


@pytest.mark.detectron2
@given(pyramids(divisible=True), st.sampled_from([None, "max_pool", "c5", "p5"]), st.sampled_from(["sum", "avg"]))
def test_matches_detectron2(pyramid: SimpleNamespace, extra: str | None, fusion: str):
    theirs = detectron2_fpn(pyramid.channels, pyramid.out_channels, pyramid.norm, extra, fusion)
    extra_levels = OUR_EXTRAS[extra]
    ours = FPN(pyramid.channels, pyramid.out_channels, None, extra_levels, fusion=fusion, norm=pyramid.norm)
    table = tables.detectron2(first_stage=6 - len(pyramid.channels))
    assert_parity(ours, theirs, run_detectron2, table, pyramid.maps)


@pytest.mark.detectron2
def test_works_on_odd_sizes_where_detectron2_raises(make_maps: Callable):
    theirs = detectron2_fpn([3, 5], 4)
    ours = FPN([3, 5], 4)
    ours.load_state_dict(theirs.state_dict())
    for sizes in ([(7, 9), (4, 5)], [(7, 9), (3, 4)]):
        maps = make_maps([3, 5], sizes)
        with pytest.raises(RuntimeError, match="must match the size"):
            theirs(maps)
        assert [tuple(m.shape[-2:]) for m in ours(maps)] == sizes


# ------------------------------------------------------------------------------------------------------------ mmdet


@st.composite
def mmdet_arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Draw arguments of mmdet's FPN besides its channels, with the number of extra levels instead of ``num_outs``."""
    return {
        "extra": draw(st.integers(0, 3)),
        "start_level": draw(st.integers(0, 4)),
        "add_extra_convs": draw(st.sampled_from([False, "on_input", "on_lateral", "on_output"])),
        "relu_before_extra_convs": draw(st.booleans()),
        "no_norm_on_lateral": draw(st.booleans()),
        "act_cfg": draw(st.sampled_from([None, {"type": "ReLU"}])),
        "upsample_cfg": draw(st.sampled_from([{"mode": "nearest"}, {"mode": "bilinear"}])),
    }


def run_mmdet(module: nn.Module, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return module(tuple(inputs))


@pytest.mark.mmdet
@settings(max_examples=30)  # more arguments to combine than the others have
@given(pyramids(), mmdet_arguments())
def test_matches_mmdet(pyramid: SimpleNamespace, arguments: dict[str, Any]):
    from mmdet.models.necks import FPN as MMDetFPN

    extra = arguments.pop("extra")
    start = arguments["start_level"] = min(arguments["start_level"], len(pyramid.channels) - 1)
    levels = len(pyramid.channels) - start
    norm_cfg = {None: None, "BN": {"type": "BN"}, "GN": {"type": "GN", "num_groups": 32}}[pyramid.norm]
    theirs = MMDetFPN(pyramid.channels, pyramid.out_channels, levels + extra, norm_cfg=norm_cfg, **arguments)

    source = arguments["add_extra_convs"]
    conv = {"op": "conv", "source": str(source).removeprefix("on_"), "bare": False}
    relu = arguments["relu_before_extra_convs"]
    ours = FPN(
        pyramid.channels,
        pyramid.out_channels,
        in_indices=range(start, len(pyramid.channels)),
        extra_levels=ExtraLevels(extra, relu=relu, **(conv if source else {})) if extra else None,
        upsample_mode=arguments["upsample_cfg"]["mode"],
        norm=pyramid.norm,
        norm_on_lateral=not arguments["no_norm_on_lateral"],
        act="relu" if arguments["act_cfg"] else None,
    )
    assert_parity(ours, theirs, run_mmdet, tables.mmdet(levels), pyramid.maps)


@pytest.mark.mmdet
@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 2), (2, 2)])
def test_matches_mmdet_on_inputs_from_the_middle(start: int, end: int, make_maps: Callable):
    """mmdet's ``end_level`` is inclusive, and there are no extra levels below the last input."""
    from mmdet.models.necks import FPN as MMDetFPN

    levels = end - start + 1
    theirs = MMDetFPN([2, 3, 4, 5], 4, levels, start_level=start, end_level=end)
    ours = FPN([2, 3, 4, 5], 4, in_indices=range(start, end + 1))
    maps = make_maps([2, 3, 4, 5], [(17, 12), (9, 6), (5, 3), (3, 2)], dtype=torch.double)
    assert_parity(ours, theirs, run_mmdet, tables.mmdet(levels), maps)
