"""Whole detectors are converted with every neck of mmdet: its keys have the names of this package's class."""

from __future__ import annotations

from typing import Any

import pytest
from mmdet_arguments import ARGUMENTS

from fpn_plugins.conversion.detectors import _part
from fpn_plugins.conversion.tables import neck_tables

pytestmark = [pytest.mark.mmdet]
necks = pytest.importorskip("mmdet.models.necks")
BN: dict[str, Any] = {"norm_cfg": {"type": "BN"}}
UP = {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1, **BN}
SAME = {"type": "conv", "kernel_size": 1, **BN}
DOWN = {"type": "interpolation_conv", "kernel_size": 3, **BN}
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: ARGUMENTS[name] for name in necks.__all__ if name in ARGUMENTS},
    "ChannelMapper": {**ARGUMENTS["ChannelMapper"], **BN},
    "HRFPN": {**ARGUMENTS["HRFPN"], **BN},
    "DyHead": {"in_channels": 32, "out_channels": 32, "num_blocks": 2},
    "NASFCOS_FPN": {"in_channels": [8, 8, 16, 32], "out_channels": 8, "num_outs": 5, "start_level": 1, **BN},
    "RFP": {
        **{"in_channels": [8, 16, 32, 64], "out_channels": 8, "num_outs": 5, "rfp_steps": 2, "aspp_out_channels": 2},
        **{"add_extra_convs": "on_output", "aspp_dilations": (1, 3, 6, 1)},
        "rfp_backbone": {
            **{"type": "mmdet.DetectoRS_ResNet", "depth": 50, "base_channels": 2, "stem_channels": 2},
            **{"rfp_inplanes": 8, "conv_cfg": {"type": "ConvAWS"}},
        },
    },
    "FPG": {
        **{"in_channels": [8, 16, 32], "out_channels": 8, "inter_channels": 8, "num_outs": 4, "stack_times": 2},
        **{"paths": ["bu", "bu"], "same_up_trans": UP, "across_lateral_trans": SAME, "across_down_trans": DOWN},
        **{"across_skip_trans": SAME, "output_trans": {"type": "last_conv", "kernel_size": 3}},
        "skip_inds": [(0, 1), (0,), (0,), ()],
    },
}


@pytest.mark.parametrize("name", sorted(set(necks.__all__) - {"FPN_CARAFE"}))  # its laterals include extra levels
def test_keys_of_mmdets_neck_have_the_names_of_ours(name: str) -> None:
    import fpn_plugins.adapters.mmdet  # noqa: F401
    from fpn_plugins.registry import MODELS

    theirs, ours = (MODELS.build({"type": f"{scope}.{name}", **CONFIGS[name]}) for scope in ("mmdet", "fpn_plugins"))
    expected = set(ours.state_dict())
    for neck in (theirs, ours):
        found = {place.name for place in _part(list(neck.state_dict()), neck_tables).values() if place.name}
        assert found == expected
