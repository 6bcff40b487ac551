"""Every argument of every neck changes its layers, its weights or its outputs; none is ignored without a word."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from registered import NECK_NAMES, build_neck, neck_inputs
from torch import Tensor, nn

from fpn_plugins import NECKS
from fpn_plugins.keywords import accepted_keywords

NORM, CONV = partial(nn.InstanceNorm2d, affine=True), partial(nn.Conv2d, padding_mode="replicate")
# values of which one differs from the default and from the example's, by argument, or by neck and argument
OTHERS: dict[str | tuple[str, str], tuple[Any, ...]] = {
    **{"out_channels": (64,), "norm": (NORM,), "act": (nn.Mish,), "conv": (CONV,), "num_blocks": (2, 3)},
    **{
        "init": ("caffe2_xavier", "kaiming_normal"),
        "upsample_mode": ("bilinear", "deconv"),
        "num_extra_levels": (1, 3),
    },
    **{"num_repeats": (2,), "fusion": ("avg", "sum"), "separable_conv": (False,), "bias_before_norm": (True,)},
    **{"pool_padding": ("symmetric", "half"), "graph": ("pan",), "depthwise": (True,), "block": ("elan",)},
    **{"output_kernel_size": (1, 3), "expand_ratio": (0.25,), "kernel_sizes": (2,), "kernel_size": (3,)},
    **{"bias": (True,), "extra_levels": ({"num_levels": 2},), "mid_channels": (12,), "dilations": ((1, 5),)},
    **{"zero_init_offset": (False,), "inter_channels": (16, 24), "extra_convs": (True,), "norm_on_lateral": (False,)},
    **{"after_merge": ({"type": "drop_block"},), "num_levels": (3,), "pooling": ("max",), "stride": (2,)},
    **{"downsample": ("scdown",), "act_on_lateral": (False,), "attention_indices": ((0,),), "num_heads": (2,)},
    **{"num_attention_layers": (2,), "mlp_channels": (24,), "dropout": (0.5,), "temperature": (10.0,)},
    **{"attention_act": (nn.Mish,), "mask_channels": (24,), "num_outs": (2,), "num_encoder_levels": (2,)},
    **{"num_layers": (2,), "num_points": (2,), "ffn_channels": (24,), "ffn_act": (nn.Mish,)},
    **{"scale_factors": ((1.0,),), "squeeze_above": (1,), "output_norm": ("BN",), "resample_act": (nn.Mish,)},
    **{"bottom_up_act": (nn.Mish,), "inner_channels": (16,), "semantic_norm": ("BN",), "num_steps": (1, 3)},
    **{"aspp_dilations": ((1, 2, 3, 1),), "extra_channels": ((16, 12),), "extra_strides": ((1, 2),)},
    **{"extra_paddings": ((2, 1),), "l2_norm_scale": (3.0,), "last_kernel_size": (1,), "refine_index": (1,)},
    **{"refine": ("conv",), "in_indices": ((1, 2), (1,)), "paths": (("top_down",),), "skipped_paths": ("none",)},
    **dict.fromkeys(("same_up", "same_down", "across_lateral", "across_down", "across_up", "output_conv"), (5,)),
    "across_skip": (5,),
    ("NASFPN", "num_extra_levels"): (3,),
}
# what an argument needs to have an effect
CONTEXT: dict[str | tuple[str, str], dict[str, Any]] = {
    "norm_on_lateral": {"norm": "BN"},
    "bias_before_norm": {"norm": "BN"},
    ("BFP", "act"): {"refine": "conv"},
    ("FPG", "same_down"): {"paths": ("top_down", "top_down")},
}
# refused by necks, or by their examples, in which they have no place
REFUSED = {
    *((name, "after_merge") for name in ("SSDPyramid", "SingleScale", "TopDownPyramid")),
    *{("BFP", "out_channels"), ("NASFCOSFPN", "in_indices"), ("NASFPN", "num_extra_levels")},
    ("CTResNetNeck", "in_indices"),  # of the one map of its example
}
# baselines that differ from FPN in the merging alone, so that one list of arguments serves all; their docstrings say so
WITHOUT_EFFECT = {
    *((name, argument) for name in ("SSDPyramid", "SingleScale") for argument in ("fusion", "upsample_mode")),
    ("TopDownPyramid", "fusion"),
}
# the input channels, what other tests compare, what fits one value alone
APART = {"in_channels", "gradient_checkpointing", "backbone", "compile", "aspp_channels"}


def cases() -> Iterator[Any]:
    """Yield each neck with each of its arguments."""
    for name in NECK_NAMES:
        for argument in sorted((accepted_keywords(NECKS[name]) or set()) - APART):
            yield pytest.param(name, argument, id=f"{name}-{argument}")


def outcome(name: str, arguments: dict[str, Any]) -> tuple[str, list[Tensor]]:
    """Print a neck, and run it in training from a fixed seed."""
    torch.manual_seed(0)
    neck = build_neck(name, **arguments)
    with torch.no_grad():
        found = neck(neck_inputs(name, (96, 136), 2, torch.float32))
    return str(neck), [*neck.state_dict().values(), *(found.values() if isinstance(found, dict) else found)]


def differ(one: tuple[str, list[Tensor]], other: tuple[str, list[Tensor]]) -> bool:
    """Compare the layers, weights and maps of two necks."""
    same = len(one[1]) == len(other[1]) and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    return one[0] != other[0] or not same


@pytest.mark.parametrize(("name", "argument"), list(cases()))
def test_another_value_makes_a_difference(name: str, argument: str) -> None:
    context = CONTEXT.get((name, argument), CONTEXT.get(argument, {}))
    plain, refused = outcome(name, context), 0
    values = OTHERS.get((name, argument), OTHERS.get(argument, ()))
    for value in values:
        try:
            if differ(plain, outcome(name, {**context, argument: value})):
                assert (name, argument) not in REFUSED
                return
        except ValueError:
            refused += 1
    assert values, f"no value of {argument} to try"
    refusal = refused == len(values) and (name, argument) in REFUSED
    assert refusal or (name, argument) in WITHOUT_EFFECT, f"{argument} of {name} does nothing"
