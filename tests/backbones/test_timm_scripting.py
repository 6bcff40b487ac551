"""``torch.jit.script`` of timm's networks, by what timm alone can script, and the error of all other backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from precision import assert_same_maps
from registered import BACKBONE_ARGUMENTS
from timm_networks import images, randomize
from torch import Tensor

from fpn_plugins import BACKBONES, FPN, Pyramid, TimmBackbone, build_backbone
from fpn_plugins.backbones.base import Backbone

pytestmark = [pytest.mark.timm, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]
# list, EfficientNet's and MobileNetV3's feature networks; channels-last maps with norms; average pooling that rounds up
SCRIPTED: list[tuple[str, dict[str, Any]]] = [
    ("resnet10t", {"frozen_stages": 1, "norm_eval": True}),
    ("mobilenetv2_100", {}),
    ("mobilenetv3_small_050", {"in_chans": 1}),
    ("convnext_atto", {"output_norm": "LN"}),
    ("ghostnet_050", {}),
    ("repvgg_a0", {}),
]
# feature networks that timm alone cannot script, with TorchScript's message about timm's code
NOT_SCRIPTED = {"vit_tiny_patch16_224": r"Could not match type Dict\[str, Tensor\]", "hrnet_w18_small": "'_out_idx'"}


@pytest.mark.parametrize(("name", "arguments"), SCRIPTED, ids=lambda value: value if isinstance(value, str) else "")
def test_scripted_equals_eager(name: str, arguments: dict[str, Any]) -> None:
    backbone = randomize(TimmBackbone(name, **arguments)).double().eval()
    parts = list(backbone.modules())
    x = images(arguments.get("in_chans", 3), dtype=torch.double)
    scripted = torch.jit.script(backbone)
    with torch.no_grad():
        assert_same_maps(scripted(x), backbone(x))
    assert scripted.state_dict().keys() == backbone.state_dict().keys()
    assert all(after is before for after, before in zip(backbone.modules(), parts, strict=True))


@pytest.mark.parametrize("name", sorted(NOT_SCRIPTED))
def test_what_timm_cannot_script_raises_the_error_about_timm(name: str) -> None:
    with pytest.raises(RuntimeError, match=NOT_SCRIPTED[name]):
        torch.jit.script(TimmBackbone(name, out_indices=(1,)))


def test_a_pyramid_scripts() -> None:
    pyramid = Pyramid(TimmBackbone("resnet10t"), [{"type": "FPN", "out_channels": 32}, {"type": "BFP"}])
    pyramid.double().eval()
    x = images(dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(torch.jit.script(pyramid)(x), pyramid(x))
    assert type(pyramid.neck[0]) is FPN
    with pytest.raises(ValueError, match="build Pyramid with autocast=None"):
        torch.jit.script(Pyramid(TimmBackbone("resnet10t"), autocast="bfloat16"))


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"TimmBackbone"}))
def test_other_backbones_name_what_works_instead(name: str) -> None:
    backbone = build_backbone({"type": name, **BACKBONE_ARGUMENTS[name]})
    for module in (backbone, Pyramid(backbone)):
        with pytest.raises(TypeError, match=f"script does not compile {name}; use torch.export, or torch.jit.trace"):
            torch.jit.script(module)


def test_a_backbone_of_a_user_is_left_to_torchscript() -> None:
    class Own(Backbone):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    x = images()
    assert torch.equal(torch.jit.script(Own())(x)[0], x)
