"""Every NASFPN and YOLOXPAFPN that mmdet ships a config for, with our type in its place: equal in all that counts."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
import torch
from benchmarks.shipped_necks import distinct
from drop_in import build_pair, deviations_from_kaiming, loss_of, random_maps, slim
from precision import assert_same_gradients, assert_same_maps
from torch import nn

pytestmark = [pytest.mark.mmdet, pytest.mark.filterwarnings("ignore:Unnecessary conv bias")]

SHIPPED = ("NASFPN", "YOLOXPAFPN")
OURS = (*SHIPPED, "CSPNeXtPAFPN")
SIZES = {"NASFPN": {"even": (64, 32), "odd": (37, 51)}, "YOLOXPAFPN": {"even": (16, 24), "larger": (32, 16)}}
NUM_NECKS = 1 + 6  # distinct ones; parametrized by position, so that collecting reads no config


def neck_config(index: int) -> dict[str, Any]:
    return [config for kind in SHIPPED for config in distinct(kind)][index]


def test_the_scan_finds_every_distinct_neck() -> None:
    """Guards the tests below: a changed layout of mmdet's package must not leave them without cases."""
    assert [len(distinct(kind)) for kind in SHIPPED] == [1, 6]


@pytest.mark.parametrize("index", range(NUM_NECKS))
@pytest.mark.parametrize("which", [0, 1], ids=["even", "other"])
def test_equal_outputs_gradients_and_statistics(index: int, which: int) -> None:
    config = slim(neck_config(index), 8)
    theirs, ours = (neck.double() for neck in build_pair(config))
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours.load_state_dict(theirs.state_dict())

    size = list(SIZES[config["type"]].values())[which]
    inputs = random_maps(config["in_channels"], size, torch.double)
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    wanted, got = theirs(inputs), ours(twins)
    assert_same_maps(got, wanted)

    loss_of(wanted).backward()
    loss_of(got).backward()
    # an input that NASFPN's start_level skips has none
    gradients = [[x.grad for x in (*maps, *neck.parameters())] for maps, neck in ((twins, ours), (inputs, theirs))]
    assert_same_gradients(*gradients)
    assert_same_maps(list(ours.buffers()), list(theirs.buffers()))


@pytest.mark.parametrize("index", range(NUM_NECKS))
def test_equal_initial_weights(index: int) -> None:
    """From the same random state, mmdet's ``init_weights`` and ours draw the very same numbers; at full width."""
    theirs, ours = build_pair(neck_config(index))
    for (name, p), (own, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(p, q), (name, own)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("before", [False, True], ids=["without init_cfg", "before init_weights"])
def test_equal_initial_weights_elsewhere(kind: str, before: bool) -> None:
    """Then mmcv's ConvModule alone has initialized: Kaiming normal, in the order of the modules."""
    from mmdet.registry import MODELS

    config: dict[str, Any] = {"in_channels": [64, 128, 256], "out_channels": 64}
    config |= {"num_outs": 5, "stack_times": 1} if kind == "NASFPN" else {}
    config |= {} if before else {"init_cfg": None}
    for name in (kind, f"fpn_plugins.{kind}"):
        neck = MODELS.build({**config, "type": name})
        if not before:
            neck.init_weights()
        deviations = deviations_from_kaiming(neck)
        assert deviations == pytest.approx([1.0] * len(deviations), abs=0.05)


@pytest.mark.parametrize("kind", OURS)
def test_every_argument_and_default_matches_mmdet(kind: str) -> None:
    from mmdet.registry import MODELS

    theirs, ours = (inspect.signature(MODELS.get(name).__init__).parameters for name in (kind, f"fpn_plugins.{kind}"))
    assert [name for name in ours if name != "more"] == list(theirs)
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())


def test_yoloxs_neck_has_both_names() -> None:
    from mmdet.registry import MODELS

    from fpn_plugins.adapters import mmdet as adapter

    assert MODELS.get("fpn_plugins.CSPPAFPN") is MODELS.get("fpn_plugins.YOLOXPAFPN") is adapter.CSPPAFPN


@pytest.mark.parametrize(
    "upsample",
    [
        {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
        {"scale_factor": 2},
        {"scale_factor": (2, 2), "mode": "bicubic"},
        {"size": (8, 12)},
    ],
)
def test_upsample_cfg_keeps_its_meaning(upsample: dict[str, Any]) -> None:
    config = {"type": "YOLOXPAFPN", "in_channels": [8, 16], "out_channels": 8, "upsample_cfg": upsample}
    theirs, ours = build_pair(config)
    ours.load_state_dict(theirs.state_dict())
    inputs = random_maps([8, 16], (8, 12), torch.double)
    theirs.double(), ours.double()
    assert all(torch.equal(g, w) for g, w in zip(ours(inputs), theirs(inputs), strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1}, "norm_cfg": {"type": "GN", "num_groups": 4}},
        {"act_cfg": None, "norm_cfg": None, "conv_cfg": {"type": "Conv2d"}},
        {"conv_cfg": {"type": "ConvWS"}, "use_depthwise": True},
    ],
)
@pytest.mark.parametrize("kind", OURS[1:])
def test_conv_norm_and_act_cfg_keep_their_meaning(kind: str, arguments: dict[str, Any]) -> None:
    theirs, ours = build_pair({"type": kind, "in_channels": [8, 16], "out_channels": 8, **arguments})
    assert all(torch.equal(p, q) for p, q in zip(theirs.parameters(), ours.parameters(), strict=True))
    ours.load_state_dict(theirs.state_dict())
    inputs = random_maps([8, 16], (8, 12), torch.double)
    assert_same_maps(ours.double()(inputs), theirs.double()(inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outs": 4}, "joins exactly 5 levels"),
        ({"num_outs": 6}, "set num_extra_levels=2"),
        ({"num_outs": 2}, "num_outs=2 is smaller than the 3 levels"),
        ({"num_outs": 5, "end_level": 1}, "extra levels exist only above the last input"),
        ({"num_outs": 5, "stack_times": 0}, "stack_times=0"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.NASFPN", "in_channels": [8, 16, 32], "out_channels": 8, "stack_times": 1}
    with pytest.raises(ValueError, match=message):
        MODELS.build({**config, **arguments})


@pytest.mark.parametrize("kind", OURS)
def test_a_misspelled_argument_is_an_error(kind: str) -> None:
    from mmdet.registry import MODELS

    config: dict[str, Any] = {"in_channels": [8, 16, 32], "out_channels": 8, "num_csp_block": 1}
    config |= {"num_outs": 5, "stack_times": 1} if kind == "NASFPN" else {}
    with pytest.raises(TypeError, match="num_csp_block"):
        MODELS.build({**config, "type": f"fpn_plugins.{kind}"})


@pytest.mark.parametrize("index", [0, NUM_NECKS - 1])
def test_neck_keeps_working_after_pickling(index: int) -> None:
    config = slim(neck_config(index), 8)
    _, ours = build_pair(config)
    again = pickle.loads(pickle.dumps(ours)).eval()
    inputs = random_maps(config["in_channels"], (32, 32))
    assert all(torch.equal(a, b) for a, b in zip(again(inputs), ours.eval()(inputs), strict=True))
