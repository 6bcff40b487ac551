"""FreqFusion has the properties that the paper gives its filters and offsets, at any size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_near_maps, assert_same_gradients, assert_same_maps
from torch import Tensor, nn
from versions import EXPORTS

from fpn_plugins import FPN, PAFPN, SingleScale, SSDPyramid, TopDownPyramid
from fpn_plugins.necks.freq_fusion import FreqFusion, local_similarity

SIDES = st.integers(1, 7)


def drawn(**arguments: Any) -> FreqFusion:
    """Build a module in double precision whose filters are far from uniform and whose offsets reach other cells."""
    module = FreqFusion(8, 6, **{"groups": 2, **arguments}).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def pair(height: int, width: int, rounded_down: bool = False) -> tuple[Tensor, Tensor]:
    """Make a fine and a coarse map; the coarse one is rounded up, or down where that leaves a cell."""
    halves = [max(side // 2, 1) if rounded_down else (side + 1) // 2 for side in (height, width)]
    return torch.randn(2, 8, height, width).double(), torch.randn(2, 8, *halves).double()


def taps(module: FreqFusion, guide: Tensor) -> Tensor:
    """Return the low-pass filter of each fine cell, ``B K*K H W``."""
    return module.low_pass(guide).softmax(1)


# ---------------------------------------------------------------------------------------------------------- the filters


@settings(max_examples=5)
@given(height=SIDES, width=SIDES, rounded_down=st.booleans())
def test_low_pass_filters_are_weighted_means_around_the_coarse_cell(height: int, width: int, rounded_down: bool):
    """Equations of the low-pass generator, cell by cell; weights are positive and sum to 1."""
    module, (fine, coarse) = drawn(low_pass_kernel_size=3), pair(height, width, rounded_down)
    guide = torch.randn(2, 6, height, width, dtype=torch.double)
    weights = taps(module, guide)
    assert (weights > 0).all()
    assert_same_maps(weights.sum(1), torch.ones(2, height, width, dtype=torch.double))
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
    expected = torch.empty_like(fine)
    for i in range(height):
        for j in range(width):
            top, left = min(i // 2, coarse.shape[-2] - 1), min(j // 2, coarse.shape[-1] - 1)
            inside = i // 2 < coarse.shape[-2] and j // 2 < coarse.shape[-1]
            row, column = (i, j) if inside else (min(i, 2 * coarse.shape[-2] - 1), min(j, 2 * coarse.shape[-1] - 1))
            around = padded[..., top : top + 3, left : left + 3].flatten(2)
            expected[..., i, j] = (around * weights[:, None, :, row, column]).sum(2)
    assert_same_maps(module.smooth(coarse, guide), expected)


@settings(max_examples=5)
@given(height=SIDES, width=SIDES)
def test_high_pass_filters_are_the_identity_minus_a_weighted_mean(height: int, width: int):
    module, (fine, _) = drawn(), pair(height, width)
    guide = torch.randn(2, 6, height, width, dtype=torch.double)
    weights = module.high_pass(guide).softmax(1)
    around = F.unfold(F.pad(fine, (1, 1, 1, 1), mode="replicate"), 3).view(2, 8, 9, height, width)
    identity = torch.zeros(9, 1, 1, dtype=torch.double)
    identity[4] = 1
    assert_same_maps(module.sharpen(fine, guide), fine + (around * (identity - weights)[:, None]).sum(2))


@settings(max_examples=5)
@given(height=SIDES, width=SIDES, rounded_down=st.booleans())
def test_constant_maps_stay_constant(height: int, width: int, rounded_down: bool):
    """Low-pass filters keep them, high-pass residuals are zero, and offsets read the same value everywhere."""
    module, (fine, coarse) = drawn(), pair(height, width, rounded_down)
    guide = torch.randn(2, 6, height, width, dtype=torch.double)
    fine, coarse = torch.full_like(fine, 3.0), torch.full_like(coarse, 2.0)
    assert_same_maps(module.smooth(coarse, guide), torch.full_like(fine, 2.0))
    assert_same_maps(module.sharpen(fine, guide) - fine, torch.zeros_like(fine), floor=1.0)
    assert_same_maps(module.resample(fine, guide), fine)
    assert_same_maps(module(fine, coarse), torch.full_like(fine, 5.0))


# ---------------------------------------------------------------------------------------------------------- the offsets


def test_zero_offsets_are_the_identity_and_whole_ones_move_the_map():
    module, (fine, _) = drawn(groups=2), pair(5, 6)
    guide = torch.randn(2, 6, 5, 6, dtype=torch.double)
    nn.init.zeros_(module.offset.weight)
    nn.init.zeros_(module.offset.bias)
    assert_same_maps(module.resample(fine, guide), fine)
    nn.init.zeros_(module.offset_scale.weight)
    nn.init.zeros_(module.offset_scale.bias)  # half of the offset
    with torch.no_grad():
        module.offset.bias.copy_(torch.tensor([2.0, 0.0, 0.0, -2.0]))  # right of the two groups, then down
    right = torch.cat((fine[..., 1:], fine[..., -1:]), -1)
    up = torch.cat((fine[..., :1, :], fine[..., :-1, :]), -2)
    assert_same_maps(module.resample(fine, guide), torch.cat((right[:, :4], up[:, 4:]), 1))


def test_similarities_are_cosines_with_the_eight_neighbors():
    x = torch.randn(1, 6, 4, 5, dtype=torch.double)
    got = local_similarity(x)
    assert got.shape == (1, 8, 4, 5)
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    for number, (down, right) in enumerate(steps):
        for i in range(4):
            for j in range(5):
                inside = 0 <= i + down < 4 and 0 <= j + right < 5
                other = x[0, :, i + down, j + right] if inside else torch.zeros(6, dtype=torch.double)
                expected = F.cosine_similarity(x[0, :, i, j], other, dim=0)
                assert got[0, number, i, j].item() == pytest.approx(expected.item(), abs=1e-12)


# ------------------------------------------------------------------------------------------------------------ the whole


def test_initial_weights_smooth_and_sharpen_evenly():
    """Filters are nearly uniform and offsets nearly zero, as CARAFE and DySample begin."""
    module, (fine, coarse) = FreqFusion(8, 6, groups=2).double(), pair(12, 12)
    mean = F.avg_pool2d(F.pad(coarse, (2, 2, 2, 2), mode="replicate"), 5, 1)
    sharp = 2 * fine - F.avg_pool2d(F.pad(fine, (1, 1, 1, 1), mode="replicate"), 3, 1)
    assert_near_maps(module(fine, coarse), sharp + F.interpolate(mean, scale_factor=2.0), tolerance=0.03)


@pytest.mark.parametrize("kind", [FPN, PAFPN])
def test_in_a_neck_at_any_size(kind: Callable[..., nn.Module]):
    """Every parameter gets a gradient, and checkpointing does not change it."""
    necks = [kind([4, 6, 8], 8, fusion="freqfusion", gradient_checkpointing=kept).double() for kept in (False, True)]
    necks[1].load_state_dict(necks[0].state_dict())
    maps = [torch.randn(2, c, *size).double() for c, size in ((4, (11, 14)), (6, (6, 7)), (8, (3, 4)))]
    results = []
    for neck in necks:
        outputs = neck(maps)
        assert [m.shape[-2:] for m in outputs] == [m.shape[-2:] for m in maps]
        loss = sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in outputs)
        results.append(
            dict(zip(dict(neck.named_parameters()), torch.autograd.grad(loss, neck.parameters()), strict=True))
        )
    assert len(necks[0].fusions) == 2 and not len(necks[0].upsamples)
    assert_same_gradients(*results)


def test_cost_grows_with_compressed_channels_only_a_little():
    """Three steps of a ResNet-50's FPN: compressors, filters of 25 and 9 taps, offsets and their scales."""
    count = sum(p.numel() for p in FPN([256, 512, 1024, 2048], fusion="freqfusion").fusions.parameters())
    compressors, filters, offsets = 2 * 257 * 64, (9 * 64 + 1) * (25 + 9), 2 * (9 * 72 + 1) * 8
    assert count == 3 * (compressors + filters + offsets)


def test_keeps_channels_last_and_works_in_bfloat16():
    module, (fine, coarse) = drawn(), pair(5, 6)
    expected = module(fine, coarse)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (fine, coarse)]
    got = copy.deepcopy(module).to(memory_format=torch.channels_last)(*last)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert_same_maps(got, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module.float()(fine.bfloat16(), coarse.bfloat16())
    assert got.dtype == torch.bfloat16
    assert_near_maps(got, expected, tolerance=0.2)


@EXPORTS
def test_scripts_and_exports():
    neck = FPN([4, 6], 8, fusion={"type": "freqfusion", "compressed_channels": 6, "groups": 2}).double().eval()
    for parameter in neck.parameters():
        nn.init.normal_(parameter, std=0.3)

    class TwoMaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neck = neck

        def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, ...]:
            return self.neck([fine, coarse])

    height, width = (torch.export.Dim(name, min=2, max=40) for name in ("h", "w"))
    sides = ({2: 2 * height, 3: 2 * width}, {2: height, 3: width})
    example = (torch.randn(1, 4, 10, 12).double(), torch.randn(1, 6, 5, 6).double())
    exported = torch.export.export(TwoMaps(), example, dynamic_shapes=sides).module()
    scripted = torch.jit.script(neck)
    for size in ((10, 12), (14, 6)):
        maps = [torch.randn(1, 4, *size).double(), torch.randn(1, 6, size[0] // 2, size[1] // 2).double()]
        with torch.no_grad():
            expected = list(neck(maps))
            for got in (exported(*maps), scripted(maps)):
                assert_same_maps(list(got), expected)


@pytest.mark.mmdet
@pytest.mark.parametrize("kind", ["FPN", "PAFPN"])
def test_in_mmdet_the_initialization_of_convolutions_leaves_it_alone(kind: str):
    """So that filters begin nearly uniform; CARAFE's weights, too."""
    from mmdet.registry import MODELS

    config = {"type": f"fpn_plugins.{kind}", "in_channels": [8, 8], "out_channels": 8, "num_outs": 2}
    for more in ({"fusion": "freqfusion"}, {"upsample_cfg": {"mode": "carafe"}}):
        neck = MODELS.build({**config, **more})
        neck.init_weights()
        own = neck.fusions[0].low_pass if "fusion" in more else neck.upsamples[0].content_encoder
        assert own.weight.std() < 0.002
        before = own.weight.clone()
        neck.init_weights()
        assert own.weight.equal(before)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (FPN, {"fusion": {"type": "freqfusion", "groups": 3}}, "fusion=.*groups=3 must divide the 8 channels"),
        (FPN, {"fusion": {"type": "freqfusion", "low_pass_kernel_size": 4}}, "low_pass_kernel_size=4 must be odd"),
        (FPN, {"fusion": {"type": "avg", "groups": 2}}, "'avg' has no arguments"),
        (
            FPN,
            {"fusion": "freqfusion", "upsample_mode": "carafe"},
            "upsamples itself; leave out upsample_mode='carafe'",
        ),
        (SSDPyramid, {"fusion": "freqfusion"}, "no top-down path for a learned fusion"),
        (TopDownPyramid, {"fusion": "freqfusion"}, "no laterals for a learned fusion"),
    ],
)
def test_errors_name_argument_and_remedy(kind: Callable[..., nn.Module], arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        kind([8, 8], 8, **arguments)
    assert not list(SingleScale([8, 8], 8, fusion="freqfusion").fusions)
