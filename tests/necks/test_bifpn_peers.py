"""BiFPN matches effdet's own class, and mmdet's registry builds it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import halves, randomize
from precision import assert_same_gradients, assert_same_maps
from seeds import generator
from torch import Tensor, nn

from fpn_plugins.necks.bifpn import BiFPN
from fpn_plugins.necks.graph import Node
from fpn_plugins.necks.merge_graphs import GRAPHS
from fpn_plugins.weights.maps import bifpn as tables

THEIR_FUSIONS = {"weighted": "fastattn", "softmax": "attn", "sum": "sum"}
FUSIONS = sorted(THEIR_FUSIONS)
THEIR_GRAPHS = {"bifpn": "bifpn_config", "pan": "panfpn_config", "quad": "qufpn_config"}
THEIR_PADDINGS = {"same": "same", "symmetric": ""}
ACTS = {"silu": "silu", "relu6": nn.ReLU6}


# ------------------------------------------------------------------------------------------------------------ effdet


def effdets(case: SimpleNamespace) -> nn.Module:
    """Build effdet's ``BiFpn`` for the map sizes of ``case``."""
    from effdet.config import default_detection_model_configs, fpn_config
    from effdet.efficientdet import BiFpn

    config = default_detection_model_configs()
    levels = len(case.channels) + case.extra
    config.min_level, config.max_level, config.num_levels = 1, levels, levels
    config.image_size = [2 * side for side in case.size]
    config.fpn_config = getattr(fpn_config, THEIR_GRAPHS[case.graph])(1, levels, THEIR_FUSIONS[case.fusion])
    config.fpn_channels, config.fpn_cell_repeats = case.out_channels, case.repeats
    config.pad_type, config.act_type = THEIR_PADDINGS[case.padding], case.act
    config.separable_conv, config.redundant_bias = case.separable, case.bias
    return BiFpn(config, [{"num_chs": channels} for channels in case.channels])


def same_as(case: SimpleNamespace, **arguments: Any) -> BiFPN:
    """Build our neck for the same case."""
    return BiFPN(
        case.channels,
        case.out_channels,
        num_extra_levels=case.extra,
        num_repeats=case.repeats,
        fusion=case.fusion,
        act=ACTS[case.act],
        separable_conv=case.separable,
        bias_before_norm=case.bias,
        pool_padding=case.padding,
        graph=case.graph,
        **arguments,
    )


@st.composite
def cases(draw: st.DrawFn) -> SimpleNamespace:
    """Draw a case that effdet supports: no side reaches one cell before the last level, where it does not resample."""
    inputs = draw(st.integers(1, 4))
    extra = draw(st.integers(max(0, 2 - inputs), 2))
    least = 2 ** (inputs + extra - 2) + 1
    return SimpleNamespace(
        channels=draw(st.lists(st.integers(1, 6), min_size=inputs, max_size=inputs)),  # 4: no 1x1 convolution
        out_channels=4,
        size=draw(st.tuples(st.integers(least, least + 20), st.integers(least, least + 20))),
        extra=extra,
        repeats=draw(st.integers(1, 3)),
        fusion=draw(st.sampled_from(FUSIONS)),
        act=draw(st.sampled_from(sorted(ACTS))),
        separable=draw(st.booleans()),
        bias=draw(st.booleans()),
        padding=draw(st.sampled_from(sorted(THEIR_PADDINGS))),
        graph=draw(st.sampled_from(sorted(GRAPHS))),
    )


def run_with_gradients(module: nn.Module, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs of ``module`` and gradients of its inputs; gradients of the parameters stay in ``.grad``."""
    inputs = [m.clone().requires_grad_() for m in maps]
    outputs = list(module(list(inputs)))  # effdet appends to the list it is given
    numbers = generator(1)
    cotangents = [torch.randn(o.shape, generator=numbers, dtype=o.dtype) / o[0, 0].numel() for o in outputs]
    torch.autograd.backward(outputs, cotangents)
    return outputs, [m.grad for m in inputs]


@pytest.mark.effdet
@settings(max_examples=40)  # more arguments to combine than other necks have
@given(cases(), st.booleans())
def test_matches_effdet(case: SimpleNamespace, train: bool):
    """Compare outputs, all gradients and batch statistics, with effdet's weights loaded as they are."""
    coarsest = halves(case.size, len(case.channels) + case.extra)[-1]
    train = train and coarsest != (1, 1)  # statistics of two values are ill-conditioned
    theirs, ours = effdets(case).double().train(train), same_as(case).double().train(train)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    sizes = halves(case.size, len(case.channels))
    maps = [torch.randn(2, c, *size, dtype=torch.double) for c, size in zip(case.channels, sizes, strict=True)]
    got, got_grads = run_with_gradients(ours, maps)
    wanted, wanted_grads = run_with_gradients(theirs, maps)

    assert len(got) == len(wanted) == len(case.channels) + case.extra
    assert_same_maps(got, wanted)
    table = tables.effdet(len(case.channels), case.separable)
    grads = {key: p.grad for key, p in ours.named_parameters()}
    paired, report = table.apply({key: p.grad for key, p in theirs.named_parameters()}, grads)
    assert report.complete, str(report)
    assert_same_gradients({**grads, "inputs": got_grads}, {**paired, "inputs": wanted_grads})
    assert_same_maps(dict(ours.state_dict()), table.apply(theirs.state_dict())[0])


SHIPPED = {  # name: (backbone's channels, arguments), each with other options of effdet's
    "efficientdet_d0": ((40, 112, 320), {"pool_padding": "symmetric"}),
    "tf_efficientdet_d0": ((40, 112, 320), {"bias_before_norm": True}),
    "tf_efficientdet_d6": ((72, 200, 576), {"bias_before_norm": True, "fusion": "sum"}),
    "tf_efficientdet_lite0": ((40, 112, 320), {"bias_before_norm": True, "fusion": "sum", "act": nn.ReLU6}),
    "tf_efficientdet_d7x": ((80, 224, 640), {"bias_before_norm": True, "fusion": "sum", "num_extra_levels": 3}),
    "resdet50": ((512, 1024, 2048), {"pool_padding": "symmetric", "separable_conv": False, "act": "relu"}),
}


@pytest.mark.effdet
@pytest.mark.parametrize("name", SHIPPED)
def test_matches_effdet_configs_in_single_precision(name: str):
    """At the published widths, with two repeats and an image of 160 x 256."""
    from effdet.config import get_efficientdet_config
    from effdet.efficientdet import BiFpn

    channels, arguments = SHIPPED[name]
    config = get_efficientdet_config(name)
    config.image_size, config.fpn_cell_repeats = (160, 256), 2
    theirs = BiFpn(config, [{"num_chs": number} for number in channels]).eval()
    ours = BiFPN(channels, config.fpn_channels, num_repeats=2, **arguments).eval()
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(1, c, *size) for c, size in zip(channels, halves((20, 32), 3), strict=True)]
    with torch.no_grad():
        assert_same_maps(ours(maps), theirs(list(maps)))


@pytest.fixture
def case() -> SimpleNamespace:
    """Return an ordinary case."""
    arguments = {"fusion": "weighted", "act": "silu", "padding": "same", "separable": True, "bias": True}
    arguments["graph"] = "bifpn"
    return SimpleNamespace(channels=[3, 5, 6], out_channels=4, size=(20, 12), extra=2, repeats=2, **arguments)


@pytest.mark.effdet
@pytest.mark.parametrize("separable", [True, False])
def test_our_weights_load_into_effdet(case: SimpleNamespace, separable: bool):
    case.separable = separable
    ours, theirs = same_as(case).double().eval(), effdets(case).double().eval()
    randomize(ours)
    renamed, report = tables.effdet(3, separable).inverse().apply(ours.state_dict(), theirs.state_dict())
    assert report.complete, str(report)
    theirs.load_state_dict(renamed)
    maps = [torch.randn(1, c, *s, dtype=torch.double) for c, s in zip(case.channels, halves((20, 12), 3), strict=True)]
    assert_same_maps(ours(maps), theirs(list(maps)))


@pytest.mark.effdet
def test_effdet_names_load_inside_a_detector(case: SimpleNamespace):
    theirs = effdets(case).state_dict()
    detector = nn.ModuleDict({"neck": copy.deepcopy(same_as(case))})
    detector.load_state_dict({f"neck.{key}": value for key, value in theirs.items()})
    for node in (2, 4):  # the second of five levels, top-down and bottom-up
        got = detector["neck"].cells[0].nodes[node].lateral_convs["1"].conv.weight
        assert torch.equal(got, theirs[f"cell.0.fnode.{node}.combine.resample.1.conv.conv.weight"])


@pytest.mark.effdet
@pytest.mark.parametrize("change", [{"repeats": 3}, {"repeats": 1}, {"extra": 1}, {"bias": False}, {"fusion": "sum"}])
def test_effdet_weights_of_another_pyramid_are_refused(case: SimpleNamespace, change: dict[str, Any]):
    theirs = effdets(case).state_dict()
    ours = same_as(SimpleNamespace(**{**vars(case), **change}))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match=r"fits this module only in part.*cell"):
        ours.load_state_dict(theirs)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


@pytest.mark.effdet
@pytest.mark.parametrize("name", GRAPHS)
def test_the_graphs_match_effdet(name: str):
    """With the weighting of each node; only the last nodes of the quad graph have one of their own."""
    from effdet.config import fpn_config

    ops = {"sum": "sum", "fastattn": "weighted"}
    for levels in range(2, 9):
        theirs = getattr(fpn_config, THEIR_GRAPHS[name])(0, levels - 1, "sum").nodes
        nodes = [Node(n["feat_level"], tuple(n["inputs_offsets"]), ops[n["weight_method"]]) for n in theirs]
        assert list(GRAPHS[name](levels).nodes) == nodes


PRESETS = {
    "pan_sum": ("pan", "sum"),
    "pan_fa": ("pan", "weighted"),
    "qufpn_sum": ("quad", "sum"),
    "qufpn_fa": ("quad", "weighted"),
}


@pytest.mark.effdet
@pytest.mark.parametrize("name", PRESETS)
def test_matches_effdet_presets(name: str):
    """By the names of effdet's configs, at the widths of EfficientDet-D0 and an odd size."""
    from effdet.config import get_efficientdet_config
    from effdet.efficientdet import BiFpn

    config = get_efficientdet_config("efficientdet_d0")
    config.fpn_name, config.image_size, config.fpn_cell_repeats = name, (161, 250), 1
    theirs = BiFpn(config, [{"num_chs": number} for number in (40, 112, 320)]).eval()
    graph, fusion = PRESETS[name]
    ours = BiFPN((40, 112, 320), 64, num_repeats=1, graph=graph, fusion=fusion, pool_padding="symmetric").eval()
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(1, c, *size) for c, size in zip((40, 112, 320), halves((21, 32), 3), strict=True)]
    with torch.no_grad():
        assert_same_maps(ours(maps), theirs(list(maps)))


@pytest.mark.effdet
def test_initial_weights_match_effdet(case: SimpleNamespace):
    """The bounds agree: the largest value identifies a uniform distribution."""
    from effdet.efficientdet import _init_weight

    case.channels, case.out_channels, case.separable = [24, 40, 80], 64, True
    theirs = effdets(case)
    for name, module in theirs.named_modules():
        _init_weight(module, name)
    ours = same_as(case).state_dict()
    for key, value in tables.effdet(3).apply(theirs.state_dict())[0].items():
        if key.endswith("weight") and value.dim() == 4:
            assert ours[key].abs().max() == pytest.approx(value.abs().max().item(), rel=0.02), key
        else:
            assert torch.equal(ours[key], value), key


# ------------------------------------------------------------------------------------------------------------ mmdet


def mmdets(**arguments: Any) -> nn.Module:
    """Build a neck from a config, as mmdet does."""
    from mmdet.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.BiFPN", **arguments})


@pytest.mark.mmdet
def test_arguments_of_mmdet_reach_the_core(make_maps: Callable):
    neck = mmdets(in_channels=[3, 4, 5, 6], out_channels=8, num_outs=5, num_repeats=2, start_level=1, with_cp=True)
    core = BiFPN([3, 4, 5, 6], 8, in_indices=(1, 2, 3), num_extra_levels=2, num_repeats=2)
    assert neck.gradient_checkpointing and neck.num_outs == 5
    assert isinstance(neck, BiFPN) and repr(core.cells) == repr(neck.cells)
    neck.init_weights()
    core.load_state_dict(neck.state_dict())
    maps = make_maps([3, 4, 5, 6], halves((33, 18), 4))
    for got, expected in zip(neck(maps), core(maps), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.mmdet
def test_factories_and_init_cfg_of_mmdet_are_applied():
    arguments = {"in_channels": [3, 4], "out_channels": 32, "num_outs": 3, "num_repeats": 1}
    neck = mmdets(
        **arguments,
        fusion="sum",
        norm_cfg={"type": "GN", "num_groups": 4},
        act_cfg={"type": "LeakyReLU"},
        init_cfg={"type": "Constant", "layer": "Conv2d", "val": 0.5},
    )
    neck.init_weights()
    node = neck.cells[0].nodes[0]
    assert isinstance(node.act, nn.LeakyReLU) and not node.act.inplace
    assert node.output_conv.norm.num_groups == 4 and node.edge_weights is None
    assert (node.output_conv.conv.weight == 0.5).all()
    torch.manual_seed(4)
    plain = mmdets(**arguments)
    before = copy.deepcopy(plain.state_dict())
    plain.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="num_outs=1 is smaller than the 2 levels"):
        mmdets(**{**arguments, "num_outs": 1})
