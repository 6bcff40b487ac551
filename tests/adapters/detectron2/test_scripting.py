"""``torch.jit.script`` of a PyramidBackbone with Detectron2's ResNet, as Detectron2 scripts its own FPN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from torch import nn

pytestmark = [pytest.mark.detectron2, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]


def resnet() -> nn.Module:
    """Detectron2's ResNet-18, prepared as Detectron2 itself does for TorchScript."""
    import detectron2.export.torchscript_patch  # noqa: F401
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import build_resnet_backbone

    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return build_resnet_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize(
    "neck",
    [
        {"type": "FPN", "extra_levels": {"num_levels": 1}},
        {"type": "FPN", "extra_levels": {"num_levels": 2, "op": "conv", "source": "input"}, "norm": "GN"},
        {"type": "PAFPN", "norm": "FrozenBN", "fusion": "avg"},
        {"type": "FPN", "upsample_mode": "carafe"},
    ],
    ids=["fpn", "retinanet", "pafpn", "carafe"],
)
@pytest.mark.parametrize("features", [("res2", "res3", "res4", "res5"), ("res3", "res4")], ids=len)
def test_scripted_equals_eager(neck: dict[str, Any], features: tuple[str, ...], tmp_path: Path) -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    pyramid = PyramidBackbone(resnet(), {"out_channels": 32, **neck}, in_features=features).double().eval()
    kind = type(pyramid.neck)
    torch.jit.script(pyramid).save(tmp_path / "pyramid.pt")
    scripted = torch.jit.load(tmp_path / "pyramid.pt")
    assert type(pyramid.neck) is kind  # scripting puts its forms into a copy
    x = torch.randn(1, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        expected, got = pyramid(x), scripted(x)
    assert list(got) == list(expected) == list(pyramid.output_shape())
    assert_same_maps(got, expected)


def test_autocast_is_refused() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    with pytest.raises(ValueError, match="build PyramidBackbone with autocast=None"):
        torch.jit.script(PyramidBackbone(resnet(), {"type": "FPN", "out_channels": 32}, autocast="bfloat16"))
