"""mmdet's FPN_CARAFE with our type in its place: equal in all that counts, without its compiled operator.

mmcv's operator needs a GPU. In the tests of ``carafe`` a sum over the unfolded neighborhood stands in for it, inside
mmdet's own class; the operator's formula itself is the subject of ``tests/test_upsampling.py``.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.shipped_necks import carafe_on_cpu
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from seeds import seed
from torch import Tensor, nn

pytestmark = [pytest.mark.mmdet, pytest.mark.filterwarnings("ignore:Unnecessary conv bias")]

CHANNELS = [4, 6, 8]
UPSAMPLES: list[dict[str, Any]] = [
    {"type": "nearest"},
    {"type": "bilinear"},
    {"type": "deconv", "upsample_kernel": 2},
    {"type": "deconv", "upsample_kernel": 3},
    {"type": "deconv", "upsample_kernel": 4},
    {"type": "pixel_shuffle", "upsample_kernel": 3},
    {"type": "carafe", "up_kernel": 5, "up_group": 1, "encoder_kernel": 3, "encoder_dilation": 1},
    {"type": "carafe", "up_kernel": 3, "up_group": 2, "encoder_kernel": 5, "compressed_channels": 7},
]


@pytest.fixture(autouse=True, scope="module")
def operator() -> Iterator[None]:
    """The stand-in for mmcv's operator."""
    with carafe_on_cpu():
        yield


def build_pair(arguments: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """mmdet's neck and ours from the same arguments, each as mmdet initializes it."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import ConfigDict

    register_all_modules()
    pair = []
    for kind in ("FPN_CARAFE", "fpn_plugins.FPN_CARAFE"):
        neck = MODELS.build(ConfigDict({**copy.deepcopy(arguments), "type": kind}))
        seed(7)
        neck.init_weights()
        pair.append(neck)
    return pair[0], pair[1]


def maps(channels: list[int], height: int, width: int) -> list[Tensor]:
    """Random input maps, each of half the size (rounded up) of the one before."""
    result = []
    for number in channels:
        result.append(torch.randn(2, number, height, width, dtype=torch.double, requires_grad=True))
        height, width = -(-height // 2), -(-width // 2)
    return result


@pytest.mark.parametrize("upsample_cfg", UPSAMPLES, ids=lambda cfg: "-".join(map(str, cfg.values())))
@given(
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    levels=st.sampled_from([(0, -1, 3), (0, -1, 5), (1, -1, 3), (0, 1, 2), (2, -1, 1)]),
    norm=st.sampled_from([None, "BN", "GN"]),
    act=st.booleans(),
    act_first=st.booleans(),
)
def test_equal_outputs_gradients_and_statistics(
    upsample_cfg: dict[str, Any],
    height: int,
    width: int,
    levels: tuple[int, int, int],
    norm: str | None,
    act: bool,
    act_first: bool,
) -> None:
    norms = {None: None, "BN": {"type": "BN"}, "GN": {"type": "GN", "num_groups": 2}}
    arguments = {"in_channels": CHANNELS, "out_channels": 4, "upsample_cfg": upsample_cfg, "norm_cfg": norms[norm]}
    arguments |= dict(zip(("start_level", "end_level", "num_outs"), levels, strict=True))
    arguments |= {"act_cfg": {"type": "ReLU"} if act else None}
    arguments |= {"order": ("act", "conv", "norm") if act_first else ("conv", "norm", "act")}
    theirs, ours = (neck.double() for neck in build_pair(arguments))
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())

    inputs = maps(CHANNELS, height, width)
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    wanted, got = theirs(inputs), ours(twins)
    assert_same_maps(got, wanted)

    sum(w.square().mean() for w in wanted).backward()
    sum(g.square().mean() for g in got).backward()
    gradients = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    again = copy.deepcopy(ours)
    again.load_state_dict({**theirs.state_dict(), **gradients})  # through the key map, into the places of the weights
    own = {key: p.grad for key, p in ours.named_parameters() if p.grad is not None}
    theirs_renamed = {key: again.get_parameter(key) for key in own}
    assert_same_gradients(
        {**own, "inputs": [x.grad for x in twins]}, {**theirs_renamed, "inputs": [x.grad for x in inputs]}
    )
    assert_same_maps(dict(ours.named_buffers()), dict(again.named_buffers())) if norm == "BN" else None


@pytest.mark.parametrize("upsample_cfg", UPSAMPLES, ids=lambda cfg: "-".join(map(str, cfg.values())))
def test_initial_weights_are_those_of_mmdet(upsample_cfg: dict[str, Any]) -> None:
    """From the same random state; mmdet draws each layer two or three times."""
    arguments = {"in_channels": [32, 64], "out_channels": 32, "num_outs": 4, "upsample_cfg": upsample_cfg}
    theirs, ours = build_pair(arguments)
    again = copy.deepcopy(ours)
    again.load_state_dict(theirs.state_dict())
    for key, value in again.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def shipped_configs() -> list[Path]:
    import mmdet

    return sorted((Path(mmdet.__file__).parent / ".mim" / "configs" / "carafe").glob("*.py"))


def test_every_shipped_neck_builds_and_loads() -> None:
    from mmengine.config import Config

    necks = [Config.fromfile(str(path)).model.neck for path in shipped_configs()]
    assert len(necks) == 2
    for neck in necks:
        assert neck.pop("type") == "FPN_CARAFE"
        theirs, ours = build_pair(neck)
        ours.load_state_dict(theirs.state_dict())
        inputs = maps(neck.in_channels, 16, 24)
        with torch.no_grad():
            assert_same_maps(ours.double()(inputs), theirs.double()(inputs))


def test_every_argument_and_default_matches_mmdet() -> None:
    import inspect

    from mmdet.registry import MODELS

    names = ("FPN_CARAFE", "fpn_plugins.FPN_CARAFE")
    theirs, ours = (inspect.signature(MODELS.get(name).__init__).parameters for name in names)
    assert [name for name in ours if name != "more"] == list(theirs)
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsample_cfg": {"type": None}}, "upsample_cfg type=None must be one of"),
        ({"upsample_cfg": {"type": "bicubic"}}, "upsample_cfg type='bicubic' must be one of"),
        ({"upsample_cfg": {"type": "carafe", "upkernel": 3}}, r"type='carafe' has no \['upkernel'\]"),
        ({"upsample_cfg": {"type": "deconv"}}, "needs upsample_kernel"),
        ({"order": ("norm", "conv", "act")}, "order="),
        ({"init_cfg": {"type": "Xavier"}}, "initializes itself"),
        ({"num_outs": 1}, "num_outs=1 is smaller than the 2 levels"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.FPN_CARAFE", "in_channels": [8, 16], "out_channels": 8, "num_outs": 2}
    with pytest.raises(ValueError, match=message):
        MODELS.build({**config, **arguments})


def test_more_arguments_reach_the_core_and_a_misspelled_one_is_an_error() -> None:
    from mmdet.registry import MODELS

    config = {"type": "fpn_plugins.FPN_CARAFE", "in_channels": [8, 16], "out_channels": 8, "num_outs": 2}
    assert MODELS.build({**config, "gradient_checkpointing": True}).gradient_checkpointing
    with pytest.raises(TypeError, match="upsample"):
        MODELS.build({**config, "upsample": "carafe"})


@pytest.mark.parametrize("upsample_cfg", UPSAMPLES[:2])
def test_neck_keeps_working_after_pickling(upsample_cfg: dict[str, Any]) -> None:
    arguments = {"in_channels": CHANNELS, "out_channels": 4, "num_outs": 4, "upsample_cfg": upsample_cfg}
    arguments |= {"act_cfg": {"type": "ReLU"}, "order": ("act", "conv", "norm")}
    ours = build_pair(arguments)[1].double()
    again = pickle.loads(pickle.dumps(ours))
    inputs = maps(CHANNELS, 9, 12)
    assert all(torch.equal(a, b) for a, b in zip(again(inputs), ours(inputs), strict=True))
