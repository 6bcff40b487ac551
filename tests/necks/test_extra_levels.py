"""Extra levels in isolation; their parity with the toolboxes is tested through FPN."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from precision import assert_same_maps
from torch import nn

from fpn_plugins import ExtraLevels
from fpn_plugins.necks.extra_levels import OPS, SOURCES, ConvLevels, MaxPoolLevels, as_extra_levels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_levels": 0}, "num_levels=0 must be at least 1"),
        ({"num_levels": -2}, "num_levels=-2 must be at least 1"),
        ({"op": "avg_pool"}, f"op='avg_pool' is unknown; choose one of {sorted(OPS)}"),
        ({"op": "conv", "source": "on_input"}, f"source='on_input' is unknown; choose one of {sorted(SOURCES)}"),
        ({"op": "max_pool", "source": "input"}, "op='max_pool' reads the output, not source='input'"),
        ({"op": "conv", "in_top_down": True}, "in_top_down=True needs source='input', not 'output'"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        ExtraLevels(**arguments)


def test_a_declaration_may_be_written_as_a_mapping():
    declared = ExtraLevels(2, "conv", source="input")
    assert as_extra_levels({"num_levels": 2, "op": "conv", "source": "input"}) == declared
    assert as_extra_levels(declared) is declared
    assert as_extra_levels(None) is None


def test_neither_a_number_nor_a_misspelled_argument_is_a_declaration():
    with pytest.raises(TypeError, match="extra_levels must be ExtraLevels, a mapping .* got 2"):
        as_extra_levels(2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="num_level"):
        as_extra_levels({"num_level": 2})


@pytest.mark.parametrize("sizes", [[(8, 6), (4, 3), (2, 2)], [(7, 5), (4, 3), (2, 2)], [(1, 3), (1, 2), (1, 1)]])
def test_max_pool_takes_every_second_cell_of_the_output(sizes: list[tuple[int, int]]):
    levels = ExtraLevels(2).build(4, 8)
    output = torch.randn(2, 8, *sizes[0])
    first, second = levels([torch.zeros(2, 4, 9, 9)], [torch.zeros(2, 8, 9, 9)], [output])
    assert torch.equal(first, output[..., ::2, ::2])
    assert torch.equal(second, output[..., ::4, ::4])
    assert [tuple(level.shape[-2:]) for level in (first, second)] == sizes[1:]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_convs_read_their_source_and_relu_skips_the_first(source: str, relu: bool):
    levels = ExtraLevels(3, "conv", source=source, relu=relu).build(4, 8).double()
    channels = {"input": 4, "lateral": 8, "output": 8}
    maps = {key: torch.randn(2, number, 7, 5, dtype=torch.double) for key, number in channels.items()}
    got = levels(*([torch.full_like(last, 9.0), last] for last in maps.values()))
    expected = maps[source]
    for index, level in enumerate(got):
        conv = levels.convs[index].conv
        inputs = F.relu(expected) if relu and index else expected
        expected = F.conv2d(inputs, conv.weight, conv.bias, stride=2, padding=1)
        assert_same_maps(level, expected)
    assert [tuple(level.shape[-2:]) for level in got] == [(4, 3), (2, 2), (1, 1)]


@pytest.mark.parametrize(("source", "channels"), [("input", 4), ("lateral", 8), ("output", 8)])
def test_only_the_first_conv_on_the_input_has_its_channels(source: str, channels: int):
    levels = ExtraLevels(2, "conv", source=source).build(4, 8)
    assert [block.conv.in_channels for block in levels.convs] == [channels, 8]


def test_bare_convs_ignore_norm_act_and_conv_of_the_neck():
    def refuse(*unused: object, **also_unused: object) -> nn.Module:
        raise AssertionError("bare convolutions are nn.Conv2d")

    bare = ExtraLevels(1, "conv", bare=True).build(4, 8, norm="BN", act="relu", conv=refuse)
    assert set(bare.state_dict()) == {"convs.0.conv.weight", "convs.0.conv.bias"}
    assert bare.convs[0].act is None
    dressed = ExtraLevels(1, "conv", bare=False).build(4, 8, norm="BN", act="relu")
    assert isinstance(dressed.convs[0].norm, nn.BatchNorm2d) and isinstance(dressed.convs[0].act, nn.ReLU)
    assert dressed.convs[0].conv.bias is None


def test_inputs_are_not_modified():
    maps = [torch.randn(1, 8, 5, 5) for _ in range(3)]
    before = [m.clone() for m in maps]
    for levels in (MaxPoolLevels(2), *(ExtraLevels(2, "conv", source).build(8, 8) for source in SOURCES)):
        levels(*([m] for m in maps))
    assert all(torch.equal(m, b) for m, b in zip(maps, before, strict=True))


def test_the_op_chooses_the_module():
    assert isinstance(ExtraLevels(op="max_pool").build(4, 8), MaxPoolLevels)
    assert isinstance(ExtraLevels(op="conv").build(4, 8), ConvLevels)
