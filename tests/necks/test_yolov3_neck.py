"""YOLOV3Neck: its definition, sizes on which mmdet fails, keys and errors; see also the tests of the mmdet adapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from parity import assert_checkpointing_changes_nothing
from precision import assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor

from fpn_plugins import FeatureSpec, YOLOV3Neck

CHANNELS = [4, 6, 8]


@pytest.mark.parametrize("sizes", [[(12, 8), (6, 4), (3, 2)], [(13, 10), (7, 5), (4, 3)], [(13, 10), (6, 5), (3, 2)]])
def test_equals_its_definition_at_any_size(sizes: list[tuple[int, int]], make_maps: Callable[..., list[Tensor]]):
    neck = YOLOV3Neck(CHANNELS, (4, 6, 8)).double().eval()
    c3, c4, c5 = make_maps(CHANNELS, sizes, dtype=torch.double)
    blocks, reduce = ([getattr(level, part) for level in neck.levels] for part in ("block", "reduce_conv"))

    def up(x: Tensor, size: tuple[int, int]) -> Tensor:
        rows, columns = (torch.arange(n) * m // n for n, m in zip(size, x.shape[-2:], strict=True))
        return x[:, :, rows][..., columns]

    with torch.no_grad():
        p5 = blocks[0](c5)
        p4 = blocks[1](torch.cat((up(reduce[1](p5), sizes[1]), c4), 1))
        p3 = blocks[2](torch.cat((up(reduce[2](p4), sizes[0]), c3), 1))
        assert_same_maps(neck([c3, c4, c5]), (p3, p4, p5))


def test_each_level_has_its_own_channels_or_one_number():
    specs = [FeatureSpec(c, 8 << k) for k, c in enumerate(CHANNELS)]
    assert [s.channels for s in YOLOV3Neck(CHANNELS, (4, 6, 8)).out_specs(specs)] == [4, 6, 8]
    assert [s.channels for s in YOLOV3Neck(CHANNELS, 5).out_specs(specs)] == [5, 5, 5]


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps(CHANNELS, [(24, 16), (12, 8), (6, 4)], dtype=torch.double)
    plain, frugal = (YOLOV3Neck(CHANNELS, 4, gradient_checkpointing=checked).double() for checked in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": (4, 6)}, "out_channels=[4, 6] must have 3 entries"),
        ({"out_channels": 0}, "out_channels=0 must be at least 1"),
        ({"upsample_mode": "bicubic"}, "upsample_mode='bicubic' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        YOLOV3Neck(**{"in_channels": CHANNELS, "out_channels": 4, **arguments})


def test_state_dict_keys_are_pinned():
    names = [f"levels.{i}.block.{k}" for i in range(4) for k in range(5)]
    assert_pinned("YOLOV3Neck", normed_keys(*names, *(f"levels.{i}.reduce_conv" for i in (1, 2, 3))))
