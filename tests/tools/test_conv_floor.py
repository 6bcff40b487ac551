"""Recorded convolutions are those that ran, at their sizes, and run alone."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN


@pytest.fixture
def floor(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/conv_floor")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_call_is_recorded(
    floor: ModuleType, make_maps: Callable[..., list[Tensor]], layout: torch.memory_format
) -> None:
    maps = [x.to(memory_format=layout) for x in make_maps([3, 5], [(8, 12), (4, 6)])]
    fpn = FPN([3, 5], 4).to(memory_format=layout)
    calls = floor.record_convs(fpn, lambda: fpn(maps))
    assert [call.conv for call in calls] == [m for m in fpn.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(call.x.shape[1:]) for call in calls] == [(3, 8, 12), (5, 4, 6), (4, 8, 12), (4, 4, 6)]
    assert [tuple(call.gradient.shape[1:]) for call in calls] == [(4, 8, 12), (4, 4, 6)] * 2
    assert all(call.x.is_contiguous(memory_format=layout) for call in calls)
    fpn(maps)
    assert len(calls) == 4  # only the one run was watched


def test_training_gives_every_weight_a_gradient_and_inference_none(
    floor: ModuleType, make_maps: Callable[..., list[Tensor]]
) -> None:
    fpn = FPN([3, 5], 4)
    maps = make_maps([3, 5], [(8, 12), (4, 6)])
    calls = floor.record_convs(fpn, lambda: fpn(maps))
    floor.run_convs(calls, training=False)
    assert all(p.grad is None for p in fpn.parameters())
    floor.run_convs(calls, training=True)
    assert all(p.grad is not None for p in fpn.parameters())
