"""Every class in MMDetection's registry on fake CUDA tensors: a tensor that is made on the CPU fails a test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_cuda import assert_runs_on_cuda
from mmdet_arguments import ARGUMENTS, CNN, NO_NETWORKS

pytestmark = [pytest.mark.mmdet, pytest.mark.timm]
pytest.importorskip("mmdet")

import fpn_plugins.adapters.mmdet  # noqa: E402, F401
from fpn_plugins.registry import MODELS  # noqa: E402

SIZE = (65, 97)
MAPS = {"in_channels": [8, 16, 32], "out_channels": 8, "num_outs": 3}
# classes that forbid an ``init_cfg``, which the shared table is about
OTHERS: dict[str, dict[str, Any]] = {
    "DyHead": {"in_channels": 32, "out_channels": 32, "num_blocks": 1},
    "FPN_CARAFE": {**MAPS, "start_level": 0},
    "NASFCOSFPN": {**MAPS, "num_outs": 4, "start_level": 0},
    "NASFCOS_FPN": {**MAPS, "num_outs": 4, "start_level": 0},
    "RFP": {
        **{"in_channels": [16, 32, 64, 128], "out_channels": 16, "num_outs": 5, "rfp_steps": 2},
        **{"aspp_out_channels": 4, "aspp_dilations": (1, 3, 6, 1)},
        "rfp_backbone": {
            "type": "fpn_plugins.DetectoRSResNet",
            "base_channels": 4,
            "feedback_channels": 16,
            "output_image": True,
        },
    },
}
# mmcv's compiled deformable convolution is built for a CPU, and takes no fake tensor
PLAIN = {"CTResNetNeck": {**ARGUMENTS["CTResNetNeck"], "use_dcn": False}}
EXAMPLES = {**ARGUMENTS, **OTHERS, **PLAIN}
# inputs of classes whose argument ``in_channels`` is no list of the inputs' channels, high to low resolution
CHANNELS = {"BFP": [8] * 3, "DyHead": [32] * 3, "PanopticFPNHead": [8] * 4, "RetinaHead": [8] * 5, "YOLOV3Neck": [6, 8]}
NAMES = sorted(set(MODELS.module_dict) - NO_NETWORKS)


def inputs_of(name: str) -> Any:
    """Images for a backbone; maps of the configured channels for a neck or head, after the image for RFP."""
    if "in_channels" not in EXAMPLES[name]:
        return torch.empty(2, 3, *SIZE)
    given = CHANNELS.get(name, EXAMPLES[name]["in_channels"])
    widths = given if isinstance(given, list) else [given]
    step = name != "MultiScaleProjector"  # which reads maps of one stride
    maps = [
        torch.empty(2, width, *((side - 1 >> 2 + step * level) + 1 for side in SIZE))
        for level, width in enumerate(widths)
    ]
    return (torch.empty(2, 3, *SIZE), *maps) if name == "RFP" else tuple(maps)


@pytest.mark.parametrize("name", NAMES)
def test_forward_on_fake_cuda(name: str) -> None:
    module = MODELS.build({"type": f"fpn_plugins.{name}", **EXAMPLES[name]})
    assert_runs_on_cuda(module, inputs_of(name), torch.bfloat16)


def test_pyramid_with_options_on_fake_cuda() -> None:
    neck = {"type": "FPN", "out_channels": 8, "num_outs": 3}
    options = {"channels_last": True, "autocast": "bfloat16"}
    module = MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": CNN, "neck": neck, **options})
    assert_runs_on_cuda(module, torch.empty(2, 3, *SIZE))
