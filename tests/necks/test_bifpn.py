"""BiFPN against effdet's own class, then what it adds, then its errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from seeds import generator
from state_keys import assert_pinned, normed_keys
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, check_pyramid
from fpn_plugins.necks.bifpn import BiFPN, bifpn_graph
from fpn_plugins.necks.bifpn_node import BiFPNNode, pool_to_half
from fpn_plugins.necks.graph import Graph, GraphCell, Node
from fpn_plugins.weights.maps import bifpn as tables

THEIR_FUSIONS = {"weighted": "fastattn", "softmax": "attn", "sum": "sum"}
FUSIONS = sorted(THEIR_FUSIONS)
THEIR_PADDINGS = {"same": "same", "symmetric": ""}
ACTS = {"silu": "silu", "relu6": nn.ReLU6}


def halves(size: tuple[int, int], number: int, up: bool = True) -> list[tuple[int, int]]:
    """Sizes of ``number`` maps, each side half of the one before, rounded up or down."""
    sizes = [size]
    for _ in range(number - 1):
        sizes.append(tuple(max(1, (side + up) // 2) for side in sizes[-1]))
    return sizes


def randomise(module: nn.Module) -> None:
    """Weights of edges, norms and biases away from ones and zeros, where a swapped pair would not show."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for key, parameter in module.named_parameters():
        if key.endswith("edge_weights"):
            nn.init.uniform_(parameter, -0.3, 1.0)  # a negative one counts as zero
            parameter.data[0] = 0.7


# ------------------------------------------------------------------------------------------------------------ effdet


def effdets(case: SimpleNamespace) -> nn.Module:
    """effdet's ``BiFpn``, built for the size of the maps of ``case``."""
    from effdet.config import default_detection_model_configs
    from effdet.config.fpn_config import bifpn_config
    from effdet.efficientdet import BiFpn

    config = default_detection_model_configs()
    levels = len(case.channels) + case.extra
    config.min_level, config.max_level, config.num_levels = 1, levels, levels
    config.image_size = [2 * side for side in case.size]
    config.fpn_config = bifpn_config(1, levels, THEIR_FUSIONS[case.fusion])
    config.fpn_channels, config.fpn_cell_repeats = case.out_channels, case.repeats
    config.pad_type, config.act_type = THEIR_PADDINGS[case.padding], case.act
    config.separable_conv, config.redundant_bias = case.separable, case.bias
    return BiFpn(config, [{"num_chs": channels} for channels in case.channels])


def same_as(case: SimpleNamespace, **arguments: Any) -> BiFPN:
    """Ours for the same case."""
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
        **arguments,
    )


@st.composite
def cases(draw: st.DrawFn) -> SimpleNamespace:
    """Whatever effdet can take: no side reaches one cell before the last level, where it would not resample."""
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
    )


def run_with_gradients(module: nn.Module, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of ``module`` and gradients of its inputs; those of the parameters are left in ``.grad``."""
    inputs = [m.clone().requires_grad_() for m in maps]
    outputs = list(module(list(inputs)))  # effdet appends to the list it is given
    numbers = generator(1)
    cotangents = [torch.randn(o.shape, generator=numbers, dtype=o.dtype) / o[0, 0].numel() for o in outputs]
    torch.autograd.backward(outputs, cotangents)
    return outputs, [m.grad for m in inputs]


@pytest.mark.effdet
@settings(max_examples=40)  # more arguments to combine than other necks have
@given(cases(), st.booleans())
def test_equals_effdet(case: SimpleNamespace, train: bool):
    """Outputs, all gradients, and what the norms remember, from weights loaded as they are."""
    coarsest = halves(case.size, len(case.channels) + case.extra)[-1]
    train = train and coarsest != (1, 1)  # statistics of two values are ill-conditioned
    theirs, ours = effdets(case).double().train(train), same_as(case).double().train(train)
    randomise(theirs)
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
def test_equals_effdets_own_configs_in_single_precision(name: str):
    """At the published widths; repeats are cut to two, the image to 160 x 256."""
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
    """An ordinary one."""
    arguments = {"fusion": "weighted", "act": "silu", "padding": "same", "separable": True, "bias": True}
    return SimpleNamespace(channels=[3, 5, 6], out_channels=4, size=(20, 12), extra=2, repeats=2, **arguments)


@pytest.mark.effdet
@pytest.mark.parametrize("separable", [True, False])
def test_our_weights_load_into_effdet(case: SimpleNamespace, separable: bool):
    case.separable = separable
    ours, theirs = same_as(case).double().eval(), effdets(case).double().eval()
    randomise(ours)
    renamed, report = tables.effdet(3, separable).inverse().apply(ours.state_dict(), theirs.state_dict())
    assert report.complete, str(report)
    theirs.load_state_dict(renamed)
    maps = [torch.randn(1, c, *s, dtype=torch.double) for c, s in zip(case.channels, halves((20, 12), 3), strict=True)]
    assert_same_maps(ours(maps), theirs(list(maps)))


@pytest.mark.effdet
def test_effdets_names_load_inside_a_detector(case: SimpleNamespace):
    theirs = effdets(case).state_dict()
    detector = nn.ModuleDict({"neck": copy.deepcopy(same_as(case))})
    detector.load_state_dict({f"neck.{key}": value for key, value in theirs.items()})
    for node in (2, 4):  # the second of five levels, top-down and bottom-up
        got = detector["neck"].cells[0].nodes[node].lateral_convs["1"].conv.weight
        assert torch.equal(got, theirs[f"cell.0.fnode.{node}.combine.resample.1.conv.conv.weight"])


@pytest.mark.effdet
@pytest.mark.parametrize("change", [{"repeats": 3}, {"repeats": 1}, {"extra": 1}, {"bias": False}, {"fusion": "sum"}])
def test_effdets_weights_of_another_pyramid_are_refused(case: SimpleNamespace, change: dict[str, Any]):
    theirs = effdets(case).state_dict()
    ours = same_as(SimpleNamespace(**{**vars(case), **change}))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match=r"fits this module only in part.*cell"):
        ours.load_state_dict(theirs)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


@pytest.mark.effdet
@pytest.mark.parametrize("levels", range(2, 9))
def test_the_graph_is_effdets(levels: int):
    from effdet.config.fpn_config import bifpn_config

    theirs = bifpn_config(0, levels - 1).nodes
    assert list(bifpn_graph(levels).nodes) == [Node(n["feat_level"], tuple(n["inputs_offsets"])) for n in theirs]


@pytest.mark.effdet
def test_initial_weights_are_effdets(case: SimpleNamespace):
    """The same bounds: uniform distributions are told by their largest value."""
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


# ------------------------------------------------------------------------------------------------------- the graph


def test_the_graph_of_five_levels_is_the_papers():
    """Numbers 0..4 are P3..P7; as listed by effdet for ``bifpn_fa``."""
    expected = [(3, 4), (2, 5), (1, 6), (0, 7), (1, 7, 8), (2, 6, 9), (3, 5, 10), (4, 11)]
    graph = bifpn_graph(5)
    assert [node.inputs for node in graph.nodes] == expected
    assert [node.level for node in graph.nodes] == [3, 2, 1, 0, 1, 2, 3, 4]
    assert graph.outputs == (8, 9, 10, 11, 12)


@pytest.mark.parametrize(
    ("levels", "node", "message"),
    [
        (2, Node(2, (0, 1)), r"map 2.*level must be one of 0..1"),
        (2, Node(-1, (0, 1)), "level must be one of"),
        (2, Node(0, ()), r"at least one map, of 0..1"),
        (2, Node(0, (0, 2)), r"at least one map, of 0..1"),
    ],
)
def test_a_graph_of_impossible_nodes_is_an_error(levels: int, node: Node, message: str):
    with pytest.raises(ValueError, match=message):
        Graph(levels, (node,))


def test_the_executor_gives_each_node_its_maps_and_its_levels_size():
    class Record(nn.Module):
        def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
            return torch.full((1, 1, *size), float(sum(int(m[0, 0, 0, 0]) for m in maps)))

    graph = Graph(2, (Node(1, (0, 1)), Node(0, (0, 2)), Node(0, (3,))))
    inputs = (torch.full((1, 1, 4, 6), 1.0), torch.full((1, 1, 2, 3), 10.0))
    fine, coarse = GraphCell(graph, [Record(), Record(), Record()])(inputs)
    assert (fine.shape, fine[0, 0, 0, 0].item()) == ((1, 1, 4, 6), 12)
    assert (coarse.shape, coarse[0, 0, 0, 0].item()) == ((1, 1, 2, 3), 11)
    with pytest.raises(ValueError, match="1 modules for a graph of 3 nodes"):
        GraphCell(graph, [Record()])


# ------------------------------------------------------------------------------------------------- what it computes


def padded_pool(x: Tensor, size: tuple[int, int], padding: str) -> Tensor:
    """TensorFlow's rule, written down once more: pad until every window is full, the odd cell last."""
    ends = []
    for have, want in zip(reversed(x.shape[-2:]), reversed(size), strict=True):
        total = (want - 1) * 2 + 3 - have
        first = total // 2 if padding == "same" else total - total // 2
        ends += [first, total - first]
    return F.max_pool2d(F.pad(x, ends, value=-math.inf), 3, stride=2)


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_max_pool_is_tensorflows(padding: str, compiling: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    for height in range(1, 9):
        for width in range(1, 9):
            x = -torch.rand(2, 3, height, width) - 1  # negative: padding with 0 would show
            for up in (False, True):
                size = halves((height, width), 2, up)[1]
                got = pool_to_half(x, size, padding)
                assert torch.equal(got, padded_pool(x, size, padding))
                assert got.max() < -1
            if padding == "symmetric":
                assert torch.equal(got, F.max_pool2d(x, 3, stride=2, padding=1))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_node_is_the_papers_formula(fusion: str):
    """Equation for P6 of section 3.3, with a map that grows, one that stays and one that is pooled."""
    node = BiFPNNode((0, 1, 2), (1, 0, -1), {}, nn.Identity(), fusion, None, "same").double()
    coarse, same, fine = (torch.randn(2, 4, *size, dtype=torch.double) for size in [(3, 2), (5, 4), (9, 7)])
    parts = [F.interpolate(coarse, size=(5, 4)), same, padded_pool(fine, (5, 4), "same")]
    weights = torch.tensor([0.5, -0.2, 2.0], dtype=torch.double)
    if fusion != "sum":
        node.edge_weights.data.copy_(weights)
    shares = {"weighted": weights.clamp(min=0) / 2.5001, "softmax": weights.softmax(0), "sum": torch.ones(3)}[fusion]
    expected = sum(share * part for share, part in zip(shares, parts, strict=True))
    assert_same_maps(node([coarse, same, fine], (5, 4)), expected)


@pytest.mark.parametrize("fusion", ["weighted", "softmax"])
def test_weights_of_every_node_are_shares(fusion: str):
    neck = BiFPN([3, 4], 5, fusion=fusion)
    nodes = [module for module in neck.modules() if isinstance(module, BiFPNNode)]
    assert len(nodes) == 3 * 6
    for node in nodes:
        shares = node.normalized_weights()
        assert_same_maps(shares, torch.full_like(shares, 1 / len(shares)), tolerance=5e-4)  # they start equal
        nn.init.normal_(node.edge_weights)
        node.edge_weights.data[0] = 1.5
        shares = node.normalized_weights()
        assert (shares >= 0).all() and shares.sum().item() == pytest.approx(1, abs=5e-4)
    assert not any("edge_weights" in key for key in BiFPN([3, 4], 5, fusion="sum").state_dict())


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("image_size", [(128, 96), (97, 131), (161, 65), (75, 33)])
@pytest.mark.parametrize(
    ("arguments", "strides"),
    [
        ({}, [4, 8, 16, 32, 64, 128]),
        ({"num_extra_levels": 0}, [4, 8, 16, 32]),
        ({"in_indices": (1, 2, 3)}, [8, 16, 32, 64, 128]),
        ({"in_indices": (3,), "num_extra_levels": 1}, [32, 64]),
    ],
)
def test_published_specs_equal_the_outputs_at_any_size(
    arguments: dict[str, Any], strides: list[int], image_size: tuple[int, int], up: bool, make_maps: Callable
):
    """Also where a backbone rounds odd sides down."""
    in_specs = [FeatureSpec(channels, stride) for channels, stride in zip((2, 3, 4, 5), (4, 8, 16, 32), strict=True)]
    neck = BiFPN([spec.channels for spec in in_specs], 6, num_repeats=2, **arguments)
    specs = neck.out_specs(in_specs)
    assert specs == tuple(FeatureSpec(6, stride) for stride in strides)
    sizes = halves(image_size, 6, up)[2:]
    outputs = neck(make_maps([2, 3, 4, 5], sizes))
    check_pyramid(outputs, specs, image_size)
    used = [sizes[index] for index in arguments.get("in_indices", range(4))]
    assert [tuple(m.shape[-2:]) for m in outputs[: len(used)]] == used


def by_hand(neck: BiFPN, maps: Sequence[Tensor]) -> list[Tensor]:
    """One repeat on three levels without extra ones, without graph and executor."""
    c0, c1, c2 = maps
    top, first, middle, last = neck.cells[0].nodes

    def lateral(node: BiFPNNode, number: int, x: Tensor) -> Tensor:
        return node.lateral_convs[str(number)](x)

    def finish(node: BiFPNNode, *terms: Tensor) -> Tensor:
        shares = [1.0] * len(terms) if node.edge_weights is None else node.normalized_weights()
        return node.output_conv(F.silu(sum(share * term for share, term in zip(shares, terms, strict=True))))

    def up(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:])

    def down(x: Tensor, like: Tensor) -> Tensor:
        return padded_pool(x, tuple(like.shape[-2:]), "same")

    m1 = finish(top, lateral(top, 1, c1), up(lateral(top, 2, c2), c1))
    p0 = finish(first, lateral(first, 0, c0), up(m1, c0))
    p1 = finish(middle, lateral(middle, 1, c1), m1, down(p0, c1))
    p2 = finish(last, lateral(last, 2, c2), down(p1, c2))
    return [p0, p1, p2]


@pytest.mark.parametrize("sizes", [[(8, 12), (4, 6), (2, 3)], [(11, 14), (6, 7), (3, 3)], [(2, 1), (1, 1), (1, 1)]])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_repeat_equals_the_formula(fusion: str, sizes: list[tuple[int, int]], make_maps: Callable):
    neck = BiFPN([3, 4, 5], 6, num_extra_levels=0, num_repeats=1, fusion=fusion)
    randomise(neck)
    neck.double().eval()
    maps = make_maps([3, 4, 5], sizes, dtype=torch.double)
    assert_same_maps(neck(maps), by_hand(neck, maps))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_are_those_of_the_function(fusion: str, make_maps: Callable):
    """Also of the inputs and of the weights of the edges, although maps are added in place."""
    neck = BiFPN([2, 3], 2, num_extra_levels=1, num_repeats=2, fusion=fusion).double().eval()
    maps = [m.requires_grad_() for m in make_maps([2, 3], [(5, 4), (3, 2)], batch=1, dtype=torch.double)]
    assert torch.autograd.gradcheck(lambda *inputs: neck(inputs), maps, fast_mode=True)
    weights = list(neck.parameters())
    assert torch.autograd.gradcheck(lambda *unused: neck([m.detach() for m in maps]), weights, fast_mode=True)


@pytest.mark.parametrize("channels", [[3, 4, 5], [8, 8, 8], [3, 8, 8]])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_inputs_are_not_modified(fusion: str, channels: list[int], make_maps: Callable):
    """Also those that go into the sums as they are, because they have the pyramid's channels; nor is the list."""
    neck = BiFPN(channels, 8, fusion=fusion)
    maps = make_maps(channels, [(12, 9), (6, 5), (3, 3)])
    given = list(maps)
    before = [m.clone() for m in maps]
    for context in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with context:
            neck(given)
    assert len(given) == 3
    assert all(m is g and torch.equal(m, b) for m, g, b in zip(maps, given, before, strict=True))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradient_checkpointing_changes_nothing_but_what_is_kept(fusion: str, train: bool, make_maps: Callable):
    """Norms, too, remember each batch once."""
    plain = BiFPN([3, 4], 8, fusion=fusion).train(train)
    saving = copy.deepcopy(plain)
    saving.gradient_checkpointing = True
    kept = []
    maps = make_maps([3, 4], [(9, 12), (5, 6)])
    results = []
    for neck in (plain, saving):
        inputs = [m.clone().requires_grad_() for m in maps]
        tensors: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, n=tensors: n.append(t.numel()) or t, lambda t: t):
            outputs = neck(inputs)
        kept.append(sum(tensors))
        sum(m.square().mean() for m in outputs).backward()
        grads = [p.grad for p in neck.parameters()]
        results.append([*outputs, *(m.grad for m in inputs), *grads, *neck.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert kept[1] < kept[0] / 5


def test_exports_with_dynamic_height_and_width(make_maps: Callable):
    """From images of 160 pixels on: below, the coarsest map has one cell, a size that export takes as fixed."""
    neck = BiFPN([3, 4, 5], 6, num_repeats=2).double().eval()
    height, width = (torch.export.Dim(name, min=5, max=64) for name in ("height", "width"))
    sides = tuple({2: factor * height, 3: factor * width} for factor in (4, 2)) + ({2: height, 3: width},)

    def maps(height: int, width: int) -> tuple[Tensor, ...]:
        sizes = [(factor * height, factor * width) for factor in (4, 2, 1)]
        return tuple(make_maps([3, 4, 5], sizes, dtype=torch.double))

    program = torch.export.export(neck, (maps(7, 6),), dynamic_shapes=(sides,))
    for size in ((5, 8), (12, 9), (16, 17)):
        inputs = maps(*size)
        with torch.no_grad():
            assert_same_maps(program.module()(inputs), neck(inputs))


@pytest.mark.parametrize("indices", [(0, 1), (1, 2), (1, 2, 3), (3,)])
def test_in_indices_choose_the_inputs(indices: tuple[int, ...], make_maps: Callable):
    channels, sizes = [2, 3, 4, 5], [(20, 13), (10, 7), (5, 4), (3, 2)]
    neck = BiFPN(channels, 6, in_indices=indices, num_repeats=1).eval()
    alone = BiFPN([channels[index] for index in indices], 6, num_repeats=1).eval()
    alone.load_state_dict(neck.state_dict())
    maps = make_maps(channels, sizes)
    for ours, expected in zip(neck(maps), alone([maps[index] for index in indices]), strict=True):
        assert torch.equal(ours, expected)


def test_norms_are_efficientdets_unless_given():
    def norms(**arguments: Any) -> list[nn.Module]:
        neck = BiFPN([3, 4], 32, num_repeats=1, **arguments)
        return [module for module in neck.modules() if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))]

    assert {(norm.eps, norm.momentum) for norm in norms()} == {(1e-3, 0.01)}
    assert {(norm.eps, norm.momentum) for norm in norms(norm="BN")} == {(1e-5, 0.1)}
    assert all(isinstance(norm, nn.GroupNorm) for norm in norms(norm="GN"))
    assert norms(norm=None) == []


def test_a_conv_factory_makes_every_convolution():
    class Marked(nn.Conv2d):
        pass

    for separable in (True, False):
        neck = BiFPN([3, 4], 8, num_repeats=2, conv=Marked, separable_conv=separable, bias_before_norm=True)
        convs = [module for module in neck.modules() if isinstance(module, nn.Conv2d)]
        assert len(convs) == 1 + 3 + 2 * 6 * (1 + separable)
        assert all(type(conv) is Marked for conv in convs)
        assert all((conv.bias is None) == (conv.groups > 1) for conv in convs)


def test_the_same_seed_gives_the_same_weights_and_init_is_heard():
    states = []
    for init in ("xavier_uniform", "xavier_uniform", "kaiming_normal"):
        torch.manual_seed(3)
        states.append(BiFPN([3, 4], 8, num_repeats=1, init=init).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    for key, value in states[0].items():
        assert value.dim() != 4 or not torch.equal(value, states[2][key])


def test_state_dict_keys_are_pinned():
    """Published checkpoints of this package, and the table for effdet, depend on them."""
    # the last input has the pyramid's channels already
    parameters = {key for key, _ in BiFPN([3, 8], 8, num_extra_levels=1, num_repeats=2).named_parameters()}
    expected = {f"cells.0.nodes.1.lateral_convs.0.{part}" for part in ("conv.weight", "norm.weight", "norm.bias")}
    for node in (f"cells.{c}.nodes.{n}" for c in range(2) for n in range(4)):
        expected |= {f"{node}.edge_weights", f"{node}.output_conv.depthwise.weight"}
        expected |= {f"{node}.output_conv.{part}" for part in ("conv.weight", "norm.weight", "norm.bias")}
    assert parameters == expected
    extra = {key for key in BiFPN([3, 4], 8, norm=None).state_dict() if key.startswith("extra_levels")}
    assert extra == {"extra_levels.lateral_conv.conv.weight", "extra_levels.lateral_conv.conv.bias"}


# ------------------------------------------------------------------------------------------------------------ mmdet


def mmdets(**arguments: Any) -> nn.Module:
    """Built from a config, as mmdet does."""
    from mmdet.registry import MODELS

    return MODELS.build({"type": "fpn_plugins.BiFPN", **arguments})


@pytest.mark.mmdet
def test_mmdets_arguments_reach_the_core(make_maps: Callable):
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
def test_mmdets_factories_and_init_cfg_are_heard():
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


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=.* must list"),
        ({"in_channels": [4], "num_extra_levels": 0}, r"num_extra_levels=0 on 1 used inputs.*to 1 or more"),
        ({"in_channels": [4, 4], "num_extra_levels": -1}, r"num_extra_levels=-1 on 2 used inputs"),
        ({"in_channels": [4, 4], "num_repeats": 0}, "num_repeats=0 must be at least 1"),
        ({"in_channels": [4, 4], "fusion": "avg"}, r"fusion='avg' is unknown.*'softmax', 'sum', 'weighted'"),
        ({"in_channels": [4, 4], "pool_padding": "valid"}, r"pool_padding='valid' is unknown.*'same', 'symmetric'"),
        ({"in_channels": [4, 4], "in_indices": (1, 0)}, "in_indices=.* must be adjacent"),
        ({"in_channels": [4, 4], "norm": "XN"}, "norm='XN' is unknown"),
        ({"in_channels": [4, 4], "act": "mish"}, "act='mish' is unknown"),
        ({"in_channels": [4, 4], "init": "zeros"}, "init='zeros' is unknown"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        BiFPN(**{"out_channels": 8, **arguments})


def test_wrong_inputs_are_named(make_maps: Callable):
    neck = BiFPN([3, 4], 8)
    with pytest.raises(ValueError, match=r"BiFPN was built for in_channels=\[3, 4\] but received 1 maps"):
        neck(make_maps([3], [(8, 8)]))
    with pytest.raises(ValueError, match=r"BiFPN cannot pool \(8, 8\) cells to \(2, 2\).*half as large"):
        neck(make_maps([3, 4], [(8, 8), (2, 2)]))


def test_specs_that_do_not_fit_are_named():
    neck = BiFPN([3, 4], 8)
    with pytest.raises(
        ValueError, match=r"built for in_channels=\[3, 4\] but the backbone publishes channels \[3, 5\]"
    ):
        neck.out_specs([FeatureSpec(3, 4), FeatureSpec(5, 8)])
    with pytest.raises(ValueError, match=r"BiFPN doubles the resolution.*strides \[4, 16\]"):
        neck.out_specs([FeatureSpec(3, 4), FeatureSpec(4, 16)])


def test_state_dict_keys_of_the_defaults_are_pinned():
    nodes = [f"cells.{c}.nodes.{n}" for c in range(3) for n in range(10)]
    laterals = [f"cells.0.nodes.{n}.lateral_convs.{m}" for n, m in enumerate((3, 2, 1, 0, 1, 2, 3), start=1)]
    keys = normed_keys("extra_levels.lateral_conv", *laterals, *(f"{node}.output_conv" for node in nodes))
    keys |= {f"{node}.{part}" for node in nodes for part in ("edge_weights", "output_conv.depthwise.weight")}
    assert_pinned("BiFPN", keys)
