"""Memory formats and precisions of every neck and backbone."""

from __future__ import annotations

import copy

import pytest
import torch
from precision import assert_near_maps, assert_same_maps
from registered import (
    BEHIND_A_NECK,
    FOUNDATION,
    MODULES,
    SINGLE_PRECISION_MAPS,
    build,
    double_example,
    each,
    example,
)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_channels_last_gives_the_same_and_is_kept(name: str, train: bool):
    module = build(name).double().train(train)
    inputs = double_example(name)
    expected = module(inputs)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    got = last(each(inputs, lambda x: x.contiguous(memory_format=torch.channels_last)))
    assert_same_maps(got, expected)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in got)
    assert all(m.is_contiguous() for m in expected)  # mmcv's RoIAlign reads any map as if it were


@pytest.mark.parametrize("name", MODULES)
def test_bfloat16_autocast_stays_near(name: str):
    """bfloat16 has 8 bits, 0.4 %, of which each layer loses some; gradients stay in single precision."""
    module = build(name)
    inputs = example(name)
    if name in BEHIND_A_NECK:  # whose maps are bfloat16 already
        inputs = each(inputs, lambda x: x.bfloat16().float())
    expected = module(inputs)
    if name in BEHIND_A_NECK:
        inputs = each(inputs, torch.Tensor.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(inputs)
        sum(m.float().square().mean() for m in got).backward()
        with torch.no_grad():  # other forms of attention
            assert_near_maps(module(inputs), expected, tolerance=0.15)
    assert any(m.dtype == torch.bfloat16 for m in got) or name in SINGLE_PRECISION_MAPS
    assert_near_maps(got, expected, tolerance=0.15)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FOUNDATION)
def test_half_precision_of_foundation_models_stays_near(name: str, dtype: torch.dtype):
    """Under autocast, and with all weights in that type; float16 has 11 bits, bfloat16 8."""
    module = build(name)
    x = example(name)
    tolerance = 0.15 if dtype == torch.bfloat16 else 0.02
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", dtype=dtype):
            autocast = module(x)
        halved = module.to(dtype)(x.to(dtype))
    assert all(m.dtype == dtype for m in halved)
    for maps in (autocast, halved):
        assert all(m.isfinite().all() for m in maps)
        assert_near_maps(maps, expected, tolerance)
