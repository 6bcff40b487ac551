"""DySample equals its definition, cell by cell, and starts as bilinear upsampling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_near_maps, assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import FPN
from fpn_plugins.ops.sampling import sample_at_offsets
from fpn_plugins.upsampling import DySample, make_upsample
from fpn_plugins.weights.maps.fpn import mmdet_carafe

FORMS = [(style, groups, dyscope) for style in ("lp", "pl") for groups in (1, 2) for dyscope in (False, True)]


def drawn(style: str, groups: int, dyscope: bool) -> DySample:
    """Build a module whose offsets reach beyond the neighboring cells."""
    layer = DySample(8, style, groups, dyscope).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def interpolated(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Read ``C h w`` between its cells, whose centers are at whole numbers; beyond the border lie copies."""
    height, width = x.shape[-2:]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    top, left = min(int(row), max(height - 2, 0)), min(int(column), max(width - 2, 0))
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = row - top, column - left
    upper = x[:, top, left] * (1 - across) + x[:, top, right] * across
    lower = x[:, bottom, left] * (1 - across) + x[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def defined(layer: DySample, x: Tensor) -> Tensor:
    """Compute one map, ``C h w``, cell by cell (section 3.2)."""
    channels, height, width = x.shape
    size, groups = channels // layer.groups, layer.groups
    result = []
    for i, j in itertools.product(range(2 * height), range(2 * width)):
        cell, number = (i // 2, j // 2), 2 * (i % 2) + j % 2
        read = x[:, cell[0], cell[1]]
        if layer.style == "pl":
            read = read.view(-1, 4)[:, number]
        rows = slice(None) if layer.style == "pl" else slice(number, None, 4)
        offset = layer.offset.weight[rows, :, 0, 0] @ read + layer.offset.bias[rows]
        factor = 0.25 if layer.scope is None else 0.5 * (layer.scope.weight[rows, :, 0, 0] @ read).sigmoid()
        across, down = (offset * factor).view(2, groups)
        pieces = [
            interpolated(x[g * size : (g + 1) * size], (i - 0.5) / 2 + down[g], (j - 0.5) / 2 + across[g])
            for g in range(groups)
        ]
        result.append(torch.cat(pieces))
    return torch.stack(result, 1).view(channels, 2 * height, 2 * width)


@settings(max_examples=3)
@given(height=st.integers(1, 4), width=st.integers(1, 4))
@pytest.mark.parametrize(("style", "groups", "dyscope"), FORMS)
def test_matches_the_definition(style: str, groups: int, dyscope: bool, height: int, width: int):
    layer = drawn(style, groups, dyscope)
    x = torch.randn(2, 8, height, width, dtype=torch.double, requires_grad=True)
    got, expected = layer(x, (2 * height, 2 * width)), torch.stack([defined(layer, image) for image in x])
    assert_same_maps(got, expected)
    leaves, cotangent = [x, *layer.parameters()], torch.randn_like(got)
    assert_same_gradients(*(torch.autograd.grad(out, leaves, cotangent) for out in (got, expected)))


@pytest.mark.parametrize("size", [(4, 7), (8, 14), (9, 5)])
def test_zero_offsets_are_bilinear_resizing(size: tuple[int, int]):
    x = torch.randn(2, 6, 4, 7, dtype=torch.double)
    got = sample_at_offsets(x, x.new_zeros(2, 4, *size))
    assert_same_maps(got, F.interpolate(x, size, mode="bilinear"))
    assert_same_maps(make_upsample("dysample", 8)(x.new_ones(1, 8, 3, 2).float(), (6, 4)), torch.ones(1, 8, 6, 4))


def test_starts_as_bilinear_upsampling_with_the_initial_weights_of_the_paper():
    """Offsets are drawn with a deviation of 0.001, and the scope starts at half of its range."""
    layer = DySample(64, dyscope=True)
    assert layer.offset.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not layer.offset.bias.any() and not layer.scope.weight.any()
    x = torch.randn(1, 64, 5, 6)
    assert_near_maps(layer(x, (10, 12)), F.interpolate(x, scale_factor=2, mode="bilinear"), tolerance=0.02)


def test_places_on_a_large_half_precision_map_are_exact():
    """In half precision, the cells of a map of 800 cells would have no places of their own."""
    ramp = torch.arange(800.0).expand(1, 4, 2, 800)
    got = sample_at_offsets((ramp / 800).bfloat16(), torch.zeros(1, 2, 2, 800, dtype=torch.bfloat16))
    assert_near_maps(got, ramp / 800, tolerance=torch.finfo(torch.bfloat16).eps)


def test_files_of_the_authors_load():
    """Their module registers the places of bilinear upsampling as a buffer; in a neck, mmdet's layout has it, too."""
    layer = DySample(8, groups=2)
    weights = {key: torch.randn_like(value) for key, value in layer.state_dict().items()}
    layer.load_state_dict({**weights, "init_pos": torch.zeros(1, 16, 1, 1)})
    assert all(value.equal(weights[key]) for key, value in layer.state_dict().items())

    neck = FPN([8, 8, 8], 8, upsample_mode={"type": "dysample", "groups": 2})
    weights = {key: torch.randn_like(value) for key, value in neck.state_dict().items()}
    theirs = mmdet_carafe(3, 3).inverse().apply(weights)[0]
    neck.load_state_dict({**theirs, **{f"upsample_modules.{i}.init_pos": torch.zeros(1, 16, 1, 1) for i in range(2)}})
    assert all(value.equal(weights[key]) for key, value in neck.state_dict().items())


def test_groups_and_styles_change_the_number_of_parameters():
    """By section 3.3: 2 g s^2 outputs of C channels, or 2 g of C / s^2."""
    for style, groups in itertools.product(("lp", "pl"), (1, 4)):
        read, predicted = (2, 2 * groups) if style == "pl" else (8, 8 * groups)
        counted = sum(math.prod(p.shape) for p in DySample(8, style, groups).parameters())
        assert counted == predicted * (read + 1)
    with pytest.raises(ValueError, match="style='pl' needs channels that 4 divides, got 6"):
        DySample(6, "pl", 2)


@pytest.mark.mmdet
def test_in_mmdet():
    """By both spellings; the initialization of the neck leaves the offsets small."""
    from mmdet.registry import MODELS

    arguments = {"in_channels": [8, 8], "out_channels": 8, "num_outs": 2}
    for name, key in (("FPN", "mode"), ("FPN_CARAFE", "type")):
        config = {"type": f"fpn_plugins.{name}", **arguments, "upsample_cfg": {key: "dysample", "groups": 2}}
        neck = MODELS.build(config)
        neck.init_weights()
        assert isinstance(neck.upsamples[0], DySample) and neck.upsamples[0].groups == 2
        assert neck.upsamples[0].offset.weight.std() < 0.002
