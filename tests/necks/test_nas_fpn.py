"""NASFPN matches mmdet's class; pooling, levels, keys and errors."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways
from seeds import generator
from state_keys import assert_pinned, conv_keys
from torch import Tensor, nn

from fpn_plugins import NASFPN, FeatureSpec
from fpn_plugins.necks.nas_fpn import GRAPH, WITHOUT_CONV, gate, halve, max_pool_blocks
from fpn_plugins.weights.maps import nas_fpn as tables

CHANNELS = [2, 3, 4, 5]


# ------------------------------------------------------------------------------------------------------------ mmdet


@lru_cache
def pair(levels: int, norm: str | None, repeats: int) -> tuple[nn.Module, nn.Module]:
    """Build mmdet's neck with non-trivial weights and norms, and ours with the same weights, in double precision."""
    from mmdet.models.necks import NASFPN as Official

    norm_cfg = {"type": norm} if norm else None
    theirs = Official([*CHANNELS, 6][-levels:], 4, 5, repeats, norm_cfg=norm_cfg).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = NASFPN([*CHANNELS, 6][-levels:], 4, num_repeats=repeats, norm=norm).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@st.composite
def pyramids(draw: st.DrawFn) -> list[Tensor]:
    """Draw three to five maps, sides rounded up or down from map to map, large enough for mmdet's extra levels."""
    levels = draw(st.integers(3, 5))
    smallest = 2 ** (5 - levels)  # the extra levels divide the coarsest map
    size = draw(st.tuples(*[st.integers(smallest, 7)] * 2))
    sizes = [size]
    for _ in range(levels - 1):
        odd = draw(st.tuples(*[st.integers(-1, 1)] * 2))
        size = tuple(max(1, 2 * side + extra) for side, extra in zip(size, odd, strict=True))
        sizes.insert(0, size)
    numbers = generator(draw(st.integers(0, 99)))
    channels = [*CHANNELS, 6][-levels:]
    return [torch.randn(2, c, *s, generator=numbers).double() for c, s in zip(channels, sizes, strict=True)]


@pytest.mark.mmdet
@pytest.mark.filterwarnings("ignore:Unnecessary conv bias")
@settings(max_examples=30)
@given(maps=pyramids(), norm=st.sampled_from([None, "BN"]), repeats=st.integers(1, 2), training=st.booleans())
def test_matches_mmdet(maps: list[Tensor], norm: str | None, repeats: int, training: bool):
    theirs, ours = (copy.deepcopy(module) for module in pair(len(maps), norm, repeats))
    single = min(maps[-1].shape[-2:]) >> (5 - len(maps)) == 1  # two cells of batch statistics: ill-conditioned
    theirs.train(training and not single), ours.train(training and not single)
    assert_equals_peer(ours, theirs, maps, tables.mmdet(), allow_unused=True)


@pytest.mark.mmdet
@pytest.mark.filterwarnings("ignore:Unnecessary conv bias")
@pytest.mark.parametrize("norm", [None, "BN"])
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_the_key_map_is_exact_both_ways(levels: int, norm: str | None):
    theirs, ours = pair(levels, norm, 2)
    assert_exact_both_ways(tables.mmdet(), theirs, ours)


@pytest.mark.mmdet
@pytest.mark.parametrize("change", ["repeats", "levels"])
def test_a_checkpoint_of_another_pyramid_is_an_error(change: str):
    theirs, _ = pair(3, None, 2) if change == "repeats" else pair(4, None, 1)
    with pytest.raises(ValueError, match="fits this module only in part"):
        NASFPN([4, 5, 6], 4, num_repeats=1).load_state_dict(theirs.state_dict())


@pytest.mark.mmdet
@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_pooling_matches_mmcv(size: tuple[int, int], target: tuple[int, int]):
    from mmcv.ops.merge_cells import SumCell

    target = tuple(min(pair) for pair in zip(size, target, strict=True))
    x = torch.randn(1, 2, *size)
    assert torch.equal(max_pool_blocks(x, target), SumCell(1, 1, with_out_conv=False)._resize(x, torch.Size(target)))


# ------------------------------------------------------------------------------------------------- what it computes


def test_pooling_pads_with_zeros_around_the_map():
    """Five cells to two: one zero at the end, then blocks of three."""
    x = -torch.arange(1.0, 6.0).view(1, 1, 1, 5)
    assert max_pool_blocks(x, (1, 2)).tolist() == [[[[-1.0, 0.0]]]]
    x = -torch.arange(1.0, 8.0).view(1, 1, 1, 7)  # seven to three: one zero before and one after, blocks of three
    assert max_pool_blocks(x, (1, 3)).tolist() == [[[[0.0, -3.0, 0.0]]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 1), (2, 2), (7, 6)])
def test_halving_drops_the_odd_end_and_keeps_one_cell(size: tuple[int, int]):
    x = torch.randn(1, 2, *size)
    got = halve(x)
    assert tuple(got.shape[-2:]) == tuple(max(1, side // 2) for side in size)
    if min(size) > 1:
        assert torch.equal(got, F.max_pool2d(x, 2, 2))
    assert got[0, 0, 0, 0] == x[0, 0, :2, :2].max()


def test_a_gate_weights_the_first_map_by_the_mean_of_the_second():
    first, second = torch.full((1, 1, 2, 2), 3.0), torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]])
    assert torch.equal(gate(first, second), second + 0.5 * first)


def test_the_graph_matches_the_paper():
    """Figure 6 by level, and the cells without a convolution."""
    read = [(node.level + 3, [GRAPH.level_of(number) + 3 for number in node.inputs]) for node in GRAPH.nodes]
    assert read == [
        *((4, [6, 4]), (4, [4, 4]), (3, [4, 3]), (4, [3, 4])),
        *((5, [4, 3]), (5, [5, 5]), (7, [5, 4]), (7, [7, 7]), (6, [7, 5])),
    ]
    assert [node.op for node in GRAPH.nodes] == ["gate", "sum", "sum", "sum", "gate", "sum", "gate", "sum", "gate"]
    assert [GRAPH.nodes[number - 5].op for number in WITHOUT_CONV] == ["gate", "gate"] and WITHOUT_CONV == (9, 11)
    assert GRAPH.outputs == (7, 8, 10, 13, 12)


@pytest.mark.parametrize("image_size", [(256, 128), (97, 131), (33, 200), (1, 1)])
@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2, 3), (2, 3), (3,)])
def test_any_size_and_five_levels_from_any_inputs(indices: tuple[int, ...], image_size: tuple[int, int]):
    in_specs = [FeatureSpec(c, 4 << k) for k, c in enumerate(CHANNELS)]
    neck = NASFPN(CHANNELS, 4, num_repeats=1, in_indices=indices)
    maps = [torch.randn(1, s.channels, *(-(-side // s.stride) for side in image_size)) for s in in_specs]
    specs = neck.out_specs(in_specs)
    assert [spec.stride for spec in specs] == [4 << (indices[0] + k) for k in range(5)]
    sizes = [tuple(maps[index].shape[-2:]) for index in indices]
    while len(sizes) < 5:
        sizes.append(tuple(max(1, side // 2) for side in sizes[-1]))
    assert [tuple(m.shape) for m in neck(maps)] == [(1, 4, *size) for size in sizes]


def test_norm_act_and_conv_reach_every_convolution():
    class Marked(nn.Conv2d):
        pass

    neck = NASFPN(CHANNELS, 8, num_repeats=2, norm="BN", act=nn.Tanh, conv=Marked)
    kinds = [type(layer) for layer in neck.modules()]
    assert kinds.count(Marked) == kinds.count(nn.BatchNorm2d) == 4 + 1 + 2 * 7
    assert kinds.count(nn.Conv2d) == 0
    assert kinds.count(nn.Tanh) == 2 * 7  # lateral and extra convolutions have none
    biases = [layer.bias is not None for layer in neck.modules() if isinstance(layer, Marked)]
    assert biases == [False] * 5 + [True] * 14  # mmcv's cells have a bias before a norm


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps(CHANNELS, [(32, 24), (16, 12), (8, 6), (4, 3)], dtype=torch.double)
    plain = NASFPN(CHANNELS, 4, num_repeats=2, norm="BN").double()
    frugal = NASFPN(CHANNELS, 4, num_repeats=2, norm="BN", gradient_checkpointing=True).double()
    assert_checkpointing_changes_nothing(plain, frugal, maps, allow_unused=True)
    with torch.no_grad():
        assert all(torch.equal(x, y) for x, y in zip(plain.eval()(maps), frugal.eval()(maps), strict=True))


def test_gradient_checkpointing_keeps_less(make_maps: Callable[..., list[Tensor]]):
    def kept(neck: nn.Module) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            neck(make_maps(CHANNELS, [(32, 32), (16, 16), (8, 8), (4, 4)]))
        return sum(sizes)

    arguments: dict[str, Any] = {"in_channels": CHANNELS, "out_channels": 4, "num_repeats": 3}
    assert kept(NASFPN(**arguments, gradient_checkpointing=True)) < kept(NASFPN(**arguments)) / 2


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=[] must list"),
        ({"in_indices": (0, 2)}, "in_indices=[0, 2] must be adjacent"),
        ({"num_extra_levels": 2}, "num_extra_levels=2 on 4 inputs: the searched graph joins exactly 5 levels"),
        ({"num_extra_levels": 0}, "set num_extra_levels=1"),
        ({"in_channels": [2] * 6}, "choose five inputs or fewer with in_indices"),
        ({"in_channels": [2] * 6, "num_extra_levels": -1}, "choose five inputs or fewer with in_indices"),
        ({"num_repeats": 0}, "num_repeats=0 must be at least 1"),
        ({"norm": "FrozenBN"}, "norm='FrozenBN' is unknown"),
        ({"act": "tanh"}, "act='tanh' is unknown"),
        ({"init": "he"}, "init='he' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        NASFPN(**{"in_channels": CHANNELS, "out_channels": 4, **arguments})


def test_other_maps_than_it_was_built_for_name_both_lists(make_maps: Callable[..., list[Tensor]]):
    neck = NASFPN(CHANNELS, 4, num_repeats=1)
    with pytest.raises(
        ValueError, match=re.escape("NASFPN was built for in_channels=[2, 3, 4, 5] but received 1 maps")
    ):
        neck(make_maps([2], [(8, 8)]))
    with pytest.raises(ValueError, match=re.escape("but the module before it publishes channels [9]")):
        neck.out_specs([FeatureSpec(9, 4)])
    with pytest.raises(ValueError, match="doubles the resolution from level to level"):
        neck.out_specs([FeatureSpec(c, 16) for c in CHANNELS])


def test_state_dict_keys_are_pinned():
    cells = [f"cells.{r}.nodes.{n}.output_conv" for r in range(7) for n in (0, 1, 2, 3, 5, 7, 8)]
    assert_pinned("NASFPN", conv_keys(*(f"lateral_convs.{i}" for i in range(4)), "extra_levels.0", *cells))
