"""Every neck of every config that mmdet ships, built with its class and with ours: equal in all that counts."""

from __future__ import annotations

import pytest
from benchmarks.shipped_necks import (
    DRAWN_BY_LAYERS,
    EXAMPLES,
    TOLERANCE,
    TOLERANCES,
    Parity,
    compare,
    distinct,
    mmdets_classes,
    served,
    shipped_necks,
)

pytestmark = [pytest.mark.mmdet, pytest.mark.filterwarnings("ignore:Unnecessary conv bias")]

# every class that mmdet exports; parametrized by name, so that collecting reads no config
CLASSES = (
    *("BFP", "CLRFPN", "CSPNeXtPAFPN", "CTResNetNeck", "ChannelMapper", "DilatedEncoder", "DyHead", "FPG", "FPN"),
    *("FPN_CARAFE", "FPN_DropBlock", "HRFPN", "NASFCOS_FPN", "NASFPN", "PAFPN", "RFP", "SSDNeck", "SSH", "YOLOV3Neck"),
    "YOLOXPAFPN",
)


def test_every_class_of_mmdet_is_served() -> None:
    assert mmdets_classes() == sorted(CLASSES)
    assert set(CLASSES) == served()


def test_the_scan_finds_the_shipped_configs() -> None:
    """Guards the tests below: a changed layout of mmdet's package must not leave them without cases."""
    necks, unreadable = shipped_necks()
    files = {name for neck in necks for name in neck.files}
    assert len(files) == 758 and len(unreadable) < 20, (len(files), unreadable)
    with_config = {neck.config["type"] for neck in necks}
    assert set(CLASSES) - with_config == {config["type"] for config in EXAMPLES}


@pytest.mark.parametrize("kind", CLASSES)
def test_equal_outputs_gradients_initial_weights_and_checkpoints(kind: str) -> None:
    """Of each distinct neck in mmdet's configs."""
    allowed = TOLERANCES.get(kind, TOLERANCE)
    configs = distinct(kind)
    assert configs
    for config in configs:
        parity = compare(config)
        assert parity.outputs <= allowed and parity.gradients <= allowed, (config, parity)
        assert parity.initial or kind in DRAWN_BY_LAYERS, config
        assert parity.checkpoint, config


def test_the_comparison_sees_an_argument_that_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from fpn_plugins.adapters.mmdet import ChannelMapper

    build = ChannelMapper.__init__
    config = {"type": "ChannelMapper", "in_channels": [64], "out_channels": 64, "act_cfg": None}
    assert compare(config) == Parity(0.0, 0.0, initial=True, checkpoint=True)
    monkeypatch.setattr(ChannelMapper, "__init__", lambda self, *a, act_cfg, **k: build(self, *a, **k))
    found = compare(config)
    assert found.outputs > 0.1 and found.gradients > 0.1 and found.initial and found.checkpoint
