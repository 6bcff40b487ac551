"""FPG in mmdet with other transitions than its configs have: equal in all that counts."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from drop_in import build_pair, loss_of, random_maps
from precision import assert_same_gradients, assert_same_maps
from torch import nn

pytestmark = pytest.mark.mmdet

BN = {"type": "BN"}
PRE = {"order": ("act", "conv", "norm"), "inplace": False}
NARROW = {"in_channels": [4, 6, 8], "out_channels": 8, "num_outs": 4, "stack_times": 2}


def grid_of(**changes: Any) -> dict[str, Any]:
    """A small grid on which mmdet's class works, with other transitions."""
    return {
        **{"type": "FPG", **NARROW, "paths": ["bu", "td"], "skip_inds": [(), (), (), ()]},
        "same_up_trans": {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1, **PRE},
        "same_down_trans": {"type": "interpolation_conv", "mode": "bilinear", "align_corners": False, **PRE},
        "across_lateral_trans": {"type": "conv", "kernel_size": 1, **PRE},
        "across_down_trans": {"type": "interpolation_conv", "mode": "bilinear", "align_corners": False, **PRE},
        "across_up_trans": {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1, "norm_cfg": BN, **PRE},
        "across_skip_trans": None,
        **changes,
    }


def run(config: dict[str, Any], size: tuple[int, int]) -> None:
    """Compare outputs, gradients and statistics of the classes that both run."""
    theirs, ours = (neck.double() for neck in build_pair(config))
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    inputs = random_maps(config["in_channels"], size, torch.double)
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    wanted, got = theirs(inputs), ours(twins)
    assert_same_maps(got, wanted)
    loss_of(wanted).backward()
    loss_of(got).backward()
    run_by_both = [
        (p, q) for p, q in zip(theirs.parameters(), parameters_like(theirs, ours), strict=True) if q is not None
    ]
    pairs = [*zip(inputs, twins, strict=True), *run_by_both]
    assert_same_gradients([q.grad for _, q in pairs], [p.grad for p, _ in pairs])
    assert all(p.grad is not None for p in ours.parameters())


def parameters_like(theirs: nn.Module, ours: nn.Module) -> list[Any]:
    """Our parameters in the order of theirs, by the table of keys; ``None`` for those that only mmdet builds."""
    from fpn_plugins.weights.maps.fpg import mmdet

    own = dict(ours.named_parameters())
    return [own.get(mmdet().find(key)[1]) for key, _ in theirs.named_parameters()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"paths": ["td", "bu"], "inter_channels": [4, 5, 6, 7], "add_extra_convs": True},
        {"across_skip_trans": {"type": "conv", "kernel_size": 1, "norm_cfg": BN, "act_cfg": None}, "start_level": 1},
        {
            "across_up_trans": None,
            "skip_inds": [(0,), ()],
            "paths": ["bu", "bu"],
            "end_level": 1,
            "num_outs": 2,
        },
        {"across_lateral_trans": {"type": "conv", "kernel_size": 3, "padding": 2, "dilation": 2, "bias": False}},
        {"output_trans": {"type": "last_conv", "kernel_size": 1, "norm_cfg": {"type": "GN", "num_groups": 2}}},
        {"across_lateral_trans": {"type": "conv", "kernel_size": 1, "conv_cfg": {"type": "ConvWS"}, "groups": 2}},
    ],
    ids=lambda changes: "-".join(changes) or "all transitions",
)
def test_other_transitions_keep_their_meaning(changes: dict[str, Any]) -> None:
    run(grid_of(**changes), (32, 48))


def test_every_argument_and_default_matches_mmdet() -> None:
    from mmdet.registry import MODELS

    theirs, ours = (inspect.signature(MODELS.get(name).__init__).parameters for name in ("FPG", "fpn_plugins.FPG"))
    assert [name for name in ours if name != "more"] == list(theirs)
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())


def test_mmdets_own_defaults_work() -> None:
    """At any size; mmdet's class stops with an error in its constructor."""
    from mmdet.registry import MODELS

    neck = MODELS.build({"type": "fpn_plugins.FPG", **NARROW, "paths": ["bu", "bu"]})
    assert [tuple(m.shape[1:]) for m in neck(random_maps([4, 6, 8], (37, 51)))] == [
        *((8, 37, 51), (8, 19, 26)),
        *((8, 10, 13), (8, 5, 7)),
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"paths": ["bu"]}, ValueError, "must have stack_times=2 entries"),
        ({"paths": ["bu", "up"]}, ValueError, "paths='up' is unknown"),
        ({"same_up_trans": {"type": "conv", "kernel_size": 3}}, None, ""),
        ({"same_up_trans": {"type": "conv", "kernel_size": 3, "stride": 1}}, ValueError, "stride=2 and padding=1"),
        ({"across_lateral_trans": {"type": "conv", "kernel_size": 2}}, ValueError, "must have an odd kernel_size"),
        ({"across_lateral_trans": {"type": "pool"}}, ValueError, "across_lateral_trans type='pool' is unknown"),
        ({"output_trans": {"type": "conv"}}, ValueError, "output_trans type='conv' is unknown"),
        ({"across_up_trans": {"type": "identity"}}, ValueError, "across_up='identity' does not halve a map"),
        ({"across_up_trans": {"type": "conv", "order": ("norm", "conv", "act")}}, ValueError, "must be one of"),
        (
            {"across_up_trans": {"type": "conv", "with_spectral_norm": True}},
            TypeError,
            "no argument 'with_spectral_norm'",
        ),
        ({"across_down_trans": {"type": "interpolation_conv"}}, ValueError, "must have one mode of upsampling"),
        ({"same_down_trans": {"type": "interpolation_conv", "scale_factor": 4}}, ValueError, "scale_factor=4"),
        ({"skip_inds": [()]}, ValueError, "one entry for each of the 4 levels"),
    ],
)
def test_errors_name_argument_and_remedy(changes: dict[str, Any], error: Any, message: str) -> None:
    from mmdet.registry import MODELS

    config = {**grid_of(**changes), "type": "fpn_plugins.FPG"}
    if error is None:
        MODELS.build(config)
        return
    with pytest.raises(error, match=message):
        MODELS.build(config)
