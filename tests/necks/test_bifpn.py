"""BiFPN: graph, formula, arguments, state-dict keys and errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parity import halves, randomize
from precision import assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins import FeatureSpec, check_pyramid
from fpn_plugins.necks.bifpn import BiFPN, bifpn_graph
from fpn_plugins.necks.bifpn_node import BiFPNNode, pool_to_half
from fpn_plugins.necks.graph import Graph, Node

FUSIONS = ("softmax", "sum", "weighted")


def test_the_graph_of_five_levels_matches_the_paper():
    """Numbers 0..4 are P3..P7; as listed by effdet for ``bifpn_fa``."""
    expected = [(3, 4), (2, 5), (1, 6), (0, 7), (1, 7, 8), (2, 6, 9), (3, 5, 10), (4, 11)]
    graph = bifpn_graph(5)
    assert [node.inputs for node in graph.nodes] == expected
    assert [node.level for node in graph.nodes] == [3, 2, 1, 0, 1, 2, 3, 4]
    assert graph.outputs == (8, 9, 10, 11, 12)


def padded_pool(x: Tensor, size: tuple[int, int], padding: str) -> Tensor:
    """Pool by TensorFlow's rule: pad until every window is full, with the odd cell last."""
    ends = []
    for have, want in zip(reversed(x.shape[-2:]), reversed(size), strict=True):
        total = (want - 1) * 2 + 3 - have
        first = total // 2 if padding == "same" else total - total // 2
        ends += [first, total - first]
    return F.max_pool2d(F.pad(x, ends, value=-math.inf), 3, stride=2)


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_max_pool_matches_tensorflow(padding: str, compiling: bool, monkeypatch: pytest.MonkeyPatch):
    for module in ("necks.bifpn_node", "ops.pooling"):
        monkeypatch.setattr(f"fpn_plugins.{module}.compiling", lambda: compiling)
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
def test_a_node_matches_the_formula_of_the_paper(fusion: str):
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
def test_weights_of_every_node_sum_to_one(fusion: str):
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
    """Includes backbones that round odd sides down."""
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
    """Compute one repeat on three levels without graph and executor."""
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
    randomize(neck)
    neck.double().eval()
    maps = make_maps([3, 4, 5], sizes, dtype=torch.double)
    assert_same_maps(neck(maps), by_hand(neck, maps))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_are_those_of_the_function(fusion: str, make_maps: Callable):
    """Includes gradients of inputs and edge weights, although maps are added in place."""
    neck = BiFPN([2, 3], 2, num_extra_levels=1, num_repeats=2, fusion=fusion).double().eval()
    maps = [m.requires_grad_() for m in make_maps([2, 3], [(5, 4), (3, 2)], batch=1, dtype=torch.double)]
    assert torch.autograd.gradcheck(lambda *inputs: neck(inputs), maps, fast_mode=True)
    weights = list(neck.parameters())
    assert torch.autograd.gradcheck(lambda *unused: neck([m.detach() for m in maps]), weights, fast_mode=True)


@pytest.mark.parametrize("channels", [[3, 4, 5], [8, 8, 8], [3, 8, 8]])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_inputs_are_not_modified(fusion: str, channels: list[int], make_maps: Callable):
    """Includes inputs that enter the sums unprojected, having the pyramid's channels, and the list of inputs."""
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
    """Batch norms count each batch once as well."""
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


@EXPORTS
def test_exports_with_dynamic_height_and_width(make_maps: Callable):
    """For images of at least 160 pixels: in smaller ones the coarsest map has one cell, a size that export fixes."""
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


def test_norms_default_to_efficientdet():
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


def test_the_same_seed_gives_the_same_weights_and_init_is_applied():
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


def two_levels(num_levels: int) -> Graph:
    """Merge the coarser level into the finer one, and pass the coarser one on."""
    return Graph(num_levels, (Node(1, (1,), "softmax"), Node(0, (0, 2))))


def test_a_graph_of_ones_own_runs_with_the_fusion_of_its_nodes(make_maps: Callable):
    neck = BiFPN([3, 4], 8, num_extra_levels=0, num_repeats=1, fusion="sum", graph=two_levels)
    assert [node.fusion for node in neck.cells[0].nodes] == ["softmax", "sum"]
    assert [tuple(m.shape[1:]) for m in neck(make_maps([3, 4], [(9, 7), (5, 4)]))] == [(8, 9, 7), (8, 5, 4)]


# ----------------------------------------------------------------------------------------------------------- errors


def far(num_levels: int) -> Graph:
    """Read the finest map at the coarsest level."""
    return Graph(num_levels, tuple(Node(level, (0,)) for level in range(num_levels)))


def avg(num_levels: int) -> Graph:
    """Name a fusion that does not exist."""
    return Graph(num_levels, tuple(Node(level, (level,), "avg") for level in range(num_levels)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=.* must list"),
        ({"in_channels": [4], "num_extra_levels": 0}, r"num_extra_levels=0 on 1 used inputs.*to 1 or more"),
        ({"in_channels": [4, 4], "num_extra_levels": -1}, r"num_extra_levels=-1 on 2 used inputs"),
        ({"in_channels": [4, 4], "num_repeats": 0}, "num_repeats=0 must be at least 1"),
        ({"in_channels": [4, 4], "fusion": "avg"}, r"fusion='avg' is unknown.*'softmax', 'sum', 'weighted'"),
        ({"in_channels": [4, 4], "pool_padding": "valid"}, r"pool_padding='valid' is unknown.*'same', 'symmetric'"),
        ({"in_channels": [4, 4], "graph": "PAN"}, r"graph='PAN' is unknown.*'bifpn', 'pan', 'quad'"),
        ({"in_channels": [4, 4], "graph": lambda _: bifpn_graph(3)}, "has 3 levels.*a neck of 4 levels needs as many"),
        ({"in_channels": [4, 4], "graph": lambda n: Graph(n, (Node(0, (0,)),))}, r"without a node at \[1, 2, 3\]"),
        ({"in_channels": [4, 4], "graph": far}, "reads a map more than one level finer"),
        ({"in_channels": [4, 4], "graph": avg}, "op of a node of graph='avg' is unknown"),
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
        ValueError, match=r"built for in_channels=\[3, 4\] but the module before it publishes channels \[3, 5\]"
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
