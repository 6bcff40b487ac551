"""What FPN is compared with differs from it in the merging alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fpn_plugins import FPN, ExtraLevels, FeatureSpec, SingleScale, SSDPyramid

CHANNELS = [6, 8, 12]
SIZES = [(9, 7), (5, 4), (3, 2)]
SPECS = [FeatureSpec(c, s) for c, s in zip(CHANNELS, (8, 16, 32), strict=True)]


def test_ssd_pyramid_is_an_fpn_on_each_map_alone(make_maps: Callable[..., list[Tensor]]) -> None:
    maps = make_maps(CHANNELS, SIZES)
    ours, fpn = SSDPyramid(CHANNELS, 8, extra_levels=ExtraLevels(1)), FPN(CHANNELS, 8, extra_levels=ExtraLevels(1))
    ours.load_state_dict(fpn.state_dict())
    with torch.no_grad():
        got, merged = ours(maps), fpn(maps)
        assert torch.equal(got[2], merged[2]) and not torch.allclose(got[0], merged[0])
        for index, m in enumerate(maps):
            alone = FPN(CHANNELS[index : index + 1], 8)
            alone.load_state_dict(
                {
                    key.replace(f".{index}.", ".0."): value
                    for key, value in fpn.state_dict().items()
                    if f"convs.{index}." in key
                }
            )
            assert torch.equal(alone([m])[0], got[index])


@pytest.mark.parametrize(("index", "stride"), [(None, 32), ((1,), 16)])
def test_single_scale_reads_one_map(
    index: tuple[int, ...] | None, stride: int, make_maps: Callable[..., list[Tensor]]
) -> None:
    maps = make_maps(CHANNELS, SIZES)
    neck = SingleScale(CHANNELS, 8, in_indices=index)
    (output,) = neck(maps)
    position = 2 if index is None else index[0]
    assert output.shape[-2:] == maps[position].shape[-2:]
    assert [spec.stride for spec in neck.out_specs(SPECS)] == [stride]
    others = [torch.zeros_like(m) if i != position else m for i, m in enumerate(maps)]
    assert torch.equal(neck(others)[0], output)


def test_single_scale_needs_one_position() -> None:
    with pytest.raises(ValueError, match=r"one map, got in_indices=\[0, 1\]"):
        SingleScale(CHANNELS, 8, in_indices=(0, 1))
    with pytest.raises(ValueError, match=r"in_indices=\[3\]"):
        SingleScale(CHANNELS, 8, in_indices=(3,))
