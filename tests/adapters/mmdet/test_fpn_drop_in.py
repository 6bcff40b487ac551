"""Every FPN, PAFPN and BFP that mmdet ships a config for, with our type in its place: equal in all that counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.shipped_necks import distinct
from drop_in import build_pair, deviations_from_kaiming, loss_of, random_maps, slim
from precision import assert_same_gradients, assert_same_maps

pytestmark = pytest.mark.mmdet

OURS = ("FPN", "PAFPN", "BFP")
ODD = (37, 29)  # of the finest input, in cells


def input_channels(config: dict[str, Any]) -> list[int]:
    """Channels of the maps that a neck takes."""
    return [config["in_channels"]] * config["num_levels"] if config["type"] == "BFP" else config["in_channels"]


def uses_sync_bn(config: dict[str, Any]) -> bool:
    """SyncBN trains on GPUs only; on the CPU it is compared in evaluation mode."""
    return (config.get("norm_cfg") or {}).get("type") == "SyncBN"


NUM_NECKS = (
    42 + 1 + 2
)  # distinct ones that mmdet can build; parametrized by position, so that collecting reads no config


def neck_config(index: int) -> dict[str, Any]:
    """The ``index``-th distinct neck that mmdet itself can build."""
    return [config for kind in OURS for config in distinct(kind)][index]


def test_the_scan_finds_every_distinct_neck() -> None:
    """Guards the tests below: a changed layout of mmdet's package must not leave them without cases."""
    assert [len(distinct(kind)) for kind in OURS] == [42, 1, 2]


@pytest.mark.parametrize("index", range(NUM_NECKS))
def test_equal_outputs_and_gradients_at_odd_sizes(index: int) -> None:
    """Even sizes are those of ``test_shipped_necks.py``."""
    config = slim(neck_config(index), 4)
    theirs, ours = (neck.double() for neck in build_pair(config))
    ours.load_state_dict(theirs.state_dict())
    training = not uses_sync_bn(config)
    theirs.train(training), ours.train(training)

    inputs = random_maps(input_channels(config), ODD, torch.double)
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    wanted, got = theirs(inputs), ours(twins)
    assert_same_maps(got, wanted)

    loss_of(wanted).backward()
    loss_of(got).backward()
    gradients = [[x.grad for x in (*maps, *neck.parameters())] for maps, neck in ((twins, ours), (inputs, theirs))]
    assert_same_gradients(*gradients)


@pytest.mark.parametrize("index", range(NUM_NECKS))
def test_equal_initial_weights(index: int) -> None:
    """From the same random state, mmdet's ``init_weights`` and ours draw the very same numbers."""
    theirs, ours = build_pair(neck_config(index))
    for (name, p), (own, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(p, q), (name, own)


def test_same_initial_statistics_before_init_weights() -> None:
    """Without ``init_cfg`` mmdet's convolutions keep ConvModule's Kaiming normal; so do ours."""
    from mmdet.registry import MODELS

    config = {"in_channels": [64, 128], "out_channels": 256, "num_outs": 3, "init_cfg": None}
    for neck in (MODELS.build({**config, "type": kind}) for kind in ("FPN", "fpn_plugins.FPN")):
        neck.init_weights()
        deviations = deviations_from_kaiming(neck)
        assert deviations == pytest.approx([1.0] * 4, abs=0.02)


def test_a_misspelled_argument_is_an_error() -> None:
    """mmdet's own class rejects ``force_grad_on_level`` too, which one shipped config passes."""
    from mmdet.registry import MODELS

    config = {"in_channels": [8], "out_channels": 8, "num_outs": 1, "force_grad_on_level": True}
    for kind in ("FPN", "fpn_plugins.FPN"):
        with pytest.raises(TypeError, match="force_grad_on_level"):
            MODELS.build({**config, "type": kind})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outs": 1}, "num_outs=1 is smaller than the 2 levels"),
        ({"num_outs": 2, "start_level": 2}, "start_level=2"),
        ({"num_outs": 3, "end_level": 0}, "extra levels exist only above the last input"),
        ({"num_outs": 3, "add_extra_convs": "on_top"}, "on_input"),
        ({"num_outs": 2, "upsample_cfg": {"mode": "trilinear"}}, "upsample_cfg mode='trilinear' must be one of"),
        ({"num_outs": 2, "upsample_cfg": {"mode": "carafe", "kernel_size": 4}}, "kernel_size=4 must be odd"),
        ({"num_outs": 2, "conv_cfg": {"type": "fpn_plugins.WinogradConv2d"}}, "were removed; use channels-last"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    from mmdet.registry import MODELS

    with pytest.raises(ValueError, match=message):
        MODELS.build({"type": "fpn_plugins.FPN", "in_channels": [8, 16], "out_channels": 8, **arguments})


def test_scale_factor_and_align_corners_keep_their_meaning() -> None:
    for upsample in ({"mode": "nearest", "scale_factor": 2}, {"mode": "bilinear", "align_corners": True}):
        config = {"type": "FPN", "in_channels": [8, 16], "out_channels": 8, "num_outs": 2, "upsample_cfg": upsample}
        theirs, ours = build_pair(config)
        ours.load_state_dict(theirs.state_dict())
        inputs = random_maps([8, 16], (16, 24))
        assert all(torch.equal(g, w) for g, w in zip(ours(inputs), theirs(inputs), strict=False))


@pytest.mark.parametrize("mode", ["deconv", "pixel_shuffle", "carafe"])
@pytest.mark.parametrize("kind", ["FPN", "PAFPN"])
def test_learned_upsampling_with_its_arguments(kind: str, mode: str) -> None:
    from mmdet.registry import MODELS

    cfg = {"mode": mode, "kernel_size": 5}
    config = {"in_channels": [8, 16], "out_channels": 8, "num_outs": 2, "upsample_cfg": cfg}
    neck = MODELS.build({"type": f"fpn_plugins.{kind}", **config})
    finer, _ = neck(random_maps([8, 16], (15, 24)))
    assert finer.shape[-2:] == (15, 24) and list(neck.upsamples.parameters())
    assert cfg == {"mode": mode, "kernel_size": 5}


def test_neck_keeps_working_after_pickling() -> None:
    import pickle

    _, ours = build_pair(
        {"type": "FPN", "in_channels": [8, 16], "out_channels": 8, "num_outs": 3, "norm_cfg": {"type": "BN"}}
    )
    inputs = random_maps([8, 16], (8, 8))
    again = pickle.loads(pickle.dumps(ours))
    assert all(torch.equal(a, b) for a, b in zip(again.eval()(inputs), ours.eval()(inputs), strict=False))
