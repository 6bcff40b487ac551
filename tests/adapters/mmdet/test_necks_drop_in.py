"""Necks of SSD, YOLOv3, CenterNet, NAS-FCOS and CLRNet in place of mmdet's: equal in all that counts."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from drop_in import build_pair, loss_of, random_maps
from precision import assert_same_gradients, assert_same_maps
from torch import nn

pytestmark = [pytest.mark.mmdet, pytest.mark.filterwarnings("ignore:.*")]

BN = {"type": "BN"}
SSD = {"type": "SSDNeck", "in_channels": [6, 8], "out_channels": [6, 8, 12, 8, 4]}
YOLO = {"type": "YOLOV3Neck", "num_scales": 3, "in_channels": [16, 8, 4], "out_channels": [8, 6, 4]}
CENTER = {"type": "CTResNetNeck", "in_channels": 12, "num_deconv_filters": [8, 6], "num_deconv_kernels": [4, 4]}
FCOS = {"type": "NASFCOS_FPN", "in_channels": [4, 6, 8, 10], "out_channels": 8, "num_outs": 5}
CLR = {"type": "CLRFPN", "in_channels": [6, 8, 10], "out_channels": 8, "num_outs": 3}
CASES: list[dict[str, Any]] = [
    # SSD300, SSD512, SSDLite
    {**SSD, "level_strides": (2, 1, 1), "level_paddings": (1, 0, 0)},
    {**SSD, "level_strides": (2, 2, 2), "level_paddings": (1, 1, 1), "last_kernel_size": 4, "l2_norm_scale": 5},
    {
        **{**SSD, "level_strides": (2, 2, 2), "level_paddings": (1, 1, 1), "use_depthwise": True},
        **{"l2_norm_scale": None, "norm_cfg": BN, "act_cfg": {"type": "ReLU6"}},
        "init_cfg": {"type": "TruncNormal", "layer": "Conv2d", "std": 0.03},
    },
    {**SSD, "level_strides": (2, 2, 1), "level_paddings": (1, 1, 1), "act_cfg": None, "conv_cfg": {"type": "ConvWS"}},
    YOLO,
    {**YOLO, "norm_cfg": None, "act_cfg": {"type": "ReLU"}, "init_cfg": {"type": "Xavier", "layer": "Conv2d"}},
    CENTER,
    {**CENTER, "use_dcn": False},
    {**CENTER, "num_deconv_kernels": [3, 2], "use_dcn": False},
    FCOS,
    {**FCOS, "conv_cfg": {"type": "DCNv2", "deform_groups": 2}, "norm_cfg": BN},
    {**FCOS, "num_outs": 3, "norm_cfg": BN, "add_extra_convs": True},
    CLR,
    {**CLR, "num_outs": 5, "add_extra_convs": True, "norm_cfg": BN, "no_norm_on_lateral": True},
    {
        **{**CLR, "num_outs": 5, "add_extra_convs": True, "extra_convs_on_inputs": False},
        **{"relu_before_extra_convs": True, "attention": True},
    },
    {**CLR, "num_outs": 2, "end_level": 2, "cfg": {}},
]
KINDS = ("SSDNeck", "YOLOV3Neck", "CTResNetNeck", "NASFCOS_FPN", "CLRFPN")


def case_id(config: dict[str, Any]) -> str:
    return f"{config['type']}-{CASES.index(config)}"


def pair(config: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """mmdet's neck and ours; CLRFPN of mmdet has no ``init_weights``, so nothing calls it."""
    from mmdet.registry import MODELS

    if config["type"] != "CLRFPN":
        return build_pair(config)
    return MODELS.build(copy.deepcopy(config)), MODELS.build({**config, "type": "fpn_plugins.CLRFPN"})


def channels_of(config: dict[str, Any]) -> list[int]:
    given = config["in_channels"]
    if isinstance(given, int):
        return [5, given]  # mmdet's neck reads the last of several maps
    return given[::-1] if config["type"] == "YOLOV3Neck" else given


@pytest.mark.parametrize("config", CASES, ids=case_id)
@pytest.mark.parametrize("training", [True, False])
def test_equal_outputs_gradients_and_statistics(config: dict[str, Any], training: bool) -> None:
    theirs, ours = (neck.double().train(training) for neck in pair(config))
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    size = (48, 32) if config["type"] == "YOLOV3Neck" else (61, 43)
    inputs = random_maps(channels_of(config), size, torch.double)
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    wanted, got = theirs(inputs), ours(twins)
    # mmdet's L2 norm computes in single precision
    tolerance = {"tolerance": 1e-5} if hasattr(theirs, "l2_norm") else {}
    assert_same_maps(got, wanted, **tolerance)
    loss_of(wanted).backward()
    loss_of(got).backward()
    gradients = [[x.grad for x in (*maps, *neck.parameters())] for maps, neck in ((twins, ours), (inputs, theirs))]
    assert_same_gradients(*gradients, **tolerance)
    for (name, b), (own, a) in zip(theirs.named_buffers(), ours.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=f"{own}: {name}")


@pytest.mark.parametrize("config", CASES, ids=case_id)
def test_equal_initial_weights(config: dict[str, Any]) -> None:
    """From the same random state; what mmdet's ``init_weights`` leaves is compared by its deviation."""
    theirs, ours = pair(config)
    for (name, p), (mine, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        untouched = config["type"] == "CLRFPN" or name.startswith("fpn.") or _keeps_mmcvs(config, name)
        if not untouched:
            assert torch.equal(p, q), (name, mine)
        elif p.numel() > 300:
            assert float(p.std()) == pytest.approx(float(q.std()), rel=0.25), (name, mine)


def _keeps_mmcvs(config: dict[str, Any], name: str) -> bool:
    """Whether mmdet's ``init_weights`` leaves a parameter as mmcv's layers have drawn it."""
    return config["type"] == "CTResNetNeck" and config.get("use_dcn", True) and name.split(".")[1] in "02"


@pytest.mark.parametrize("config", CASES, ids=case_id)
def test_the_layout_is_exact_both_ways(config: dict[str, Any]) -> None:
    theirs, ours = pair(config)
    state = theirs.state_dict()
    ours.load_state_dict(state)
    assert [value.shape for value in ours.state_dict().values()] == [value.shape for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), state.values(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_and_default_matches_mmdet(kind: str) -> None:
    from mmdet.registry import MODELS

    theirs, ours = (inspect.signature(MODELS.get(name).__init__).parameters for name in (kind, f"fpn_plugins.{kind}"))
    assert [name for name in ours if name != "more"] == list(theirs)
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())


@pytest.mark.parametrize("kind", ["CTResNetNeck", "CLRFPN"])
def test_maps_that_mmdet_leaves_out_are_left_out(kind: str) -> None:
    config = CENTER if kind == "CTResNetNeck" else CLR
    _, ours = pair(config)
    ours.eval()
    maps = random_maps([12, 6, 8, 10, 12], (64, 64))
    given, fewer = (maps, maps[-1:]) if kind == "CTResNetNeck" else (maps[1:], maps[1:4])
    assert_same_maps(ours(given), ours(fewer), tolerance=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CASES[0], "out_channels": [6, 9, 12, 8, 4]}, "must begin with in_channels=\\[6, 8\\]"),
        ({**CASES[0], "level_strides": (2, 1)}, "level_strides=\\[2, 1\\] must have 3 entries"),
        ({**YOLO, "num_scales": 2}, "in_channels=\\[16, 8, 4\\] must have 2 entries"),
        ({**CENTER, "num_deconv_kernels": [4]}, "num_deconv_kernels=\\[4\\] must have 2 entries"),
        ({**FCOS, "init_cfg": {"type": "Xavier"}}, "initializes itself"),
        ({**FCOS, "start_level": 0}, "joins exactly 3 maps"),
        ({**CLR, "end_level": 0}, "end_level=0 must be at least 1"),
        ({**CLR, "end_level": 2}, "num_outs=3 with end_level=1"),
    ],
)
def test_errors_name_argument_and_remedy(config: dict[str, Any], message: str) -> None:
    from mmdet.registry import MODELS

    with pytest.raises(ValueError, match=message):
        MODELS.build({**config, "type": f"fpn_plugins.{config['type']}"})
