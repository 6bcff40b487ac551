"""FPN: formula, arguments, state-dict keys and errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from parity import randomize
from precision import assert_same_maps
from state_keys import FPN_KEYS, assert_pinned
from torch import Tensor, nn

from fpn_plugins import FPN, ExtraLevels, FeatureSpec, check_pyramid

C5_LEVELS = ExtraLevels(2, "conv", source="input", relu=True, bare=True)


def by_hand(neck: FPN, maps: Sequence[Tensor]) -> list[Tensor]:
    """Compute the paper's figure 3 out of place."""
    merged = [conv(x) for conv, x in zip(neck.lateral_convs, maps, strict=True)]
    for index in reversed(range(len(merged) - 1)):
        up = neck.upsamples[-1 - index](merged[index + 1], tuple(merged[index].shape[-2:]))
        merged[index] = (merged[index] + up) * (0.5 if neck.fusion == "avg" else 1.0)
    return [conv(x) for conv, x in zip(neck.output_convs, merged, strict=True)]


SIZES = [(11, 14), (6, 7), (3, 3)]  # 14 -> 7 -> 3 rounds down, 11 -> 6 -> 3 up
VARIANTS = [
    pytest.param({"upsample_mode": mode, "fusion": fusion, "act": act}, id=f"{mode}-{fusion}-{act}")
    for mode in ("nearest", "bilinear", "deconv", "pixel_shuffle", "carafe")
    for fusion in ("sum", "avg")
    for act in (None, "relu")
]


@pytest.mark.parametrize("arguments", VARIANTS)
def test_every_merge_equals_the_formula(arguments: dict[str, Any], make_maps: Callable):
    neck = FPN([3, 4, 5], 6, **arguments).double()
    maps = make_maps([3, 4, 5], SIZES, dtype=torch.double)
    assert_same_maps(neck(maps), by_hand(neck, maps))


@pytest.mark.parametrize("arguments", VARIANTS)
def test_gradients_are_those_of_the_function(arguments: dict[str, Any], make_maps: Callable):
    """Includes merging in place, and ReLU, whose saved result an in-place merge would destroy."""
    neck = FPN([2, 1], 2, extra_levels=ExtraLevels(1, "conv", source="lateral"), **arguments).double()
    randomize(neck)
    maps = [m.requires_grad_() for m in make_maps([2, 1], [(3, 4), (2, 2)], batch=1, dtype=torch.double)]
    assert torch.autograd.gradcheck(lambda *inputs: neck(inputs), maps, fast_mode=True)
    weights = list(neck.parameters())
    assert torch.autograd.gradcheck(lambda *unused: neck([m.detach() for m in maps]), weights, fast_mode=True)


@pytest.mark.parametrize("norm", [None, "BN", "GN", "LN"])
@pytest.mark.parametrize("extra", [None, "input", "lateral", "output"])
def test_inputs_are_not_modified(norm: str | None, extra: str | None, make_maps: Callable):
    extra_levels = ExtraLevels(2, "conv", source=extra) if extra else None
    neck = FPN([3, 4, 5], 32, extra_levels=extra_levels, norm=norm)
    maps = make_maps([3, 4, 5], SIZES)
    before = [m.clone() for m in maps]
    for context in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with context:
            neck(maps)
    assert all(torch.equal(m, b) for m, b in zip(maps, before, strict=True))


@pytest.mark.parametrize("norm", [None, "BN", "GN"])
def test_merging_adds_in_place_without_an_activation(norm: str | None, make_maps: Callable):
    """Performance: a training step keeps no second copy of the finest map."""
    neck = FPN([3, 4], 32, norm=norm)
    laterals = make_maps([32, 32], [(6, 6), (3, 3)])
    assert neck.top_down(laterals)[0].data_ptr() == laterals[0].data_ptr()
    neck = FPN([3, 4], 32, norm=norm, act="relu")
    assert neck.top_down(laterals)[0].data_ptr() != laterals[0].data_ptr()


@pytest.mark.parametrize("indices", [(0,), (3,), (0, 1), (1, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_in_indices_choose_the_inputs(indices: tuple[int, ...], make_maps: Callable):
    channels, sizes = [2, 3, 4, 5], [(20, 13), (10, 7), (5, 4), (3, 2)]
    neck = FPN(channels, 6, in_indices=indices)
    alone = FPN([channels[index] for index in indices], 6)
    alone.load_state_dict(neck.state_dict())
    maps = make_maps(channels, sizes)
    got = neck(maps)
    assert [tuple(m.shape[-2:]) for m in got] == [sizes[index] for index in indices]
    for ours, expected in zip(got, alone([maps[index] for index in indices]), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("image_size", [(128, 96), (97, 131), (75, 33)])
@pytest.mark.parametrize(
    ("arguments", "strides"),
    [
        ({}, [4, 8, 16, 32]),
        ({"in_indices": (1, 2, 3)}, [8, 16, 32]),
        ({"in_indices": (0, 1)}, [4, 8]),
        ({"extra_levels": ExtraLevels(1)}, [4, 8, 16, 32, 64]),
        ({"in_indices": (1, 2, 3), "extra_levels": C5_LEVELS}, [8, 16, 32, 64, 128]),
        ({"in_indices": (0, 1), "extra_levels": {"num_levels": 3}}, [4, 8, 16, 32, 64]),
    ],
)
def test_published_specs_equal_the_outputs(
    arguments: dict[str, Any], strides: list[int], image_size: tuple[int, int], make_maps: Callable
):
    in_specs = [FeatureSpec(channels, stride) for channels, stride in zip((2, 3, 4, 5), (4, 8, 16, 32), strict=True)]
    neck = FPN([spec.channels for spec in in_specs], 6, **arguments)
    specs = neck.out_specs(in_specs)
    assert specs == tuple(FeatureSpec(6, stride) for stride in strides)
    sizes = [tuple(-(-side // spec.stride) for side in image_size) for spec in in_specs]
    check_pyramid(neck(make_maps([2, 3, 4, 5], sizes)), specs, image_size)


def test_extra_levels_read_the_chosen_map_of_the_pyramid(make_maps: Callable):
    """The lateral is the merged one; with several levels the last, not the first, is continued."""
    maps = make_maps([3, 4], [(8, 6), (4, 3)], dtype=torch.double)
    for source in ("input", "lateral", "output"):
        neck = FPN([3, 4], 4, extra_levels=ExtraLevels(1, "conv", source=source)).double()
        top = neck.lateral_convs[1](maps[1])
        read = {"input": maps[1], "lateral": top, "output": neck.output_convs[1](top)}[source]
        assert_same_maps(neck(maps)[-1], neck.extra_levels.convs[0](read))


def test_norm_on_lateral_can_be_left_out():
    neck = FPN([3, 4], 8, norm="BN", norm_on_lateral=False)
    assert [conv.norm is None for conv in neck.lateral_convs] == [True, True]
    assert [conv.conv.bias is None for conv in neck.lateral_convs] == [False, False]
    assert all(isinstance(conv.norm, nn.BatchNorm2d) for conv in neck.output_convs)


def test_a_conv_factory_makes_every_convolution():
    class Marked(nn.Conv2d):
        pass

    neck = FPN([3, 4], 8, extra_levels=ExtraLevels(2, "conv", bare=False), conv=Marked)
    convs = [module for module in neck.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 6
    assert all(type(conv) is Marked for conv in convs)


def test_the_same_seed_gives_the_same_weights_and_init_is_applied():
    states = []
    for init in ("caffe2_xavier", "caffe2_xavier", "kaiming_normal"):
        torch.manual_seed(3)
        states.append(FPN([3, 4], 8, extra_levels=C5_LEVELS, init=init).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    for key, value in states[0].items():
        assert (torch.count_nonzero(value) == 0) if key.endswith("bias") else not torch.equal(value, states[2][key])


# --------------------------------------------------------------------------------------------------- checkpoint keys


def test_state_dict_keys_are_pinned():
    """Published checkpoints of this package, and the tables for mmdet, detectron2 and torchvision, depend on them."""
    plain = {f"{kind}_convs.{i}.conv.{p}" for kind in ("lateral", "output") for i in (0, 1) for p in ("weight", "bias")}
    extra = {f"extra_levels.convs.{k}.conv.{p}" for k in (0, 1) for p in ("weight", "bias")}
    deconv = {f"upsamples.0.deconv.{p}" for p in ("weight", "bias")}
    assert set(FPN([3, 4], 8, extra_levels=C5_LEVELS).state_dict()) == plain | extra
    assert set(FPN([3, 4], 8, upsample_mode="deconv").state_dict()) == plain | deconv
    normed = FPN([3, 4], 32, norm="GN", norm_on_lateral=False, extra_levels=ExtraLevels(1, "conv", bare=False))
    assert set(normed.state_dict()) == {
        *(key for key in plain if key.startswith("lateral")),
        *(f"output_convs.{i}.{p}" for i in (0, 1) for p in ("conv.weight", "norm.weight", "norm.bias")),
        *(f"extra_levels.convs.0.{p}" for p in ("conv.weight", "norm.weight", "norm.bias")),
    }


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=[] must list the channels of at least one map"),
        ({"in_channels": 256}, "in_channels=256 must list"),
        ({"in_channels": [8, 0]}, "in_channels=[8, 0] must list"),
        ({"in_indices": ()}, "in_indices=[] must be adjacent positions among the 3 inputs (0..2)"),
        ({"in_indices": (0, 2)}, "in_indices=[0, 2] must be adjacent"),
        ({"in_indices": (1, 0)}, "in_indices=[1, 0] must be adjacent"),
        ({"in_indices": (1, 1)}, "in_indices=[1, 1] must be adjacent"),
        ({"in_indices": (2, 3)}, "in_indices=[2, 3] must be adjacent"),
        ({"in_indices": (-1,)}, "in_indices=[-1] must be adjacent"),
        ({"fusion": "weighted"}, "fusion='weighted' is unknown; choose one of ['avg', 'freqfusion', 'sum']"),
        (
            {"upsample_mode": "bicubic"},
            "upsample_mode='bicubic' is unknown; choose one of ['bilinear', 'carafe', 'deconv', 'dysample', 'nearest",
        ),
        ({"norm": "FrozenBN"}, "norm='FrozenBN' is unknown; choose one of ['BN', 'GN', 'LN', 'SyncBN']"),
        ({"act": "tanh"}, "act='tanh' is unknown; choose one of"),
        ({"init": "he"}, "init='he' is unknown; choose one of"),
        ({"extra_levels": {"num_levels": 0}}, "ExtraLevels num_levels=0"),
        ({"extra_levels": {"op": "pool"}}, "ExtraLevels op='pool' is unknown"),
        ({"norm": "GN", "out_channels": 48}, "norm='GN' needs channels divisible by 32, got 48"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        FPN(**{"in_channels": [2, 3, 4], "out_channels": 8, **arguments})


def test_a_number_instead_of_extra_levels_is_a_type_error():
    with pytest.raises(TypeError, match="extra_levels must be ExtraLevels"):
        FPN([2, 3], 4, extra_levels=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [[2, 3], [2, 3, 4, 5], [4, 3, 2], [2, 3, 5]])
def test_other_maps_than_it_was_built_for_name_both_lists(channels: list[int], make_maps: Callable):
    neck = FPN([2, 3, 4], 4)
    maps = make_maps(channels, [(8 >> k, 8 >> k) for k in range(len(channels))])
    message = f"FPN was built for in_channels=[2, 3, 4] but received {len(channels)} maps with channels {channels}"
    with pytest.raises(ValueError, match=re.escape(message)):
        neck(maps)
    with pytest.raises(
        ValueError, match=re.escape(f"in_channels=[2, 3, 4] but the module before it publishes channels {channels}")
    ):
        neck.out_specs([FeatureSpec(c, 4 << k) for k, c in enumerate(channels)])


def test_state_dict_keys_of_the_defaults_are_pinned():
    assert_pinned("FPN", FPN_KEYS)
