"""Every registered neck trains two iterations and evaluates on the synthetic set, in both toolboxes' own loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fpn_plugins import NECKS, build_neck
from fpn_plugins.necks.card import C2_TO_C5
from fpn_plugins.necks.rfp import SMALL_BACKBONE

CHANNELS = 32

# strides of the outputs on C2..C5, and arguments in each toolbox's vocabulary; a neck that is missing gets none
PYRAMID = [4, 8, 16, 32, 64]
CASES: dict[str, tuple[list[int], Any, Any]] = {
    "FPN": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "PAFPN": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "SSDPyramid": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "TopDownPyramid": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "SingleScale": ([32], {"num_outs": 1, "start_level": 3}, {}),
    "BiFPN": (PYRAMID, {"num_outs": 5, "num_repeats": 1}, {"num_extra_levels": 1, "num_repeats": 1}),
    "FPG": (PYRAMID, {"num_outs": 5, "stack_times": 1, "paths": ["bu"]}, {"paths": ["bottom_up"]}),
    "NASFCOSFPN": ([8, 16, 32, 64, 128], {"num_outs": 5}, {"in_indices": (1, 2, 3)}),
    "NASFPN": (PYRAMID, {"num_outs": 5, "stack_times": 1}, {"num_repeats": 1}),
    "CSPNeXtPAFPN": (PYRAMID[:4], {"num_csp_blocks": 1}, {"num_blocks": 1}),
    "CSPPAFPN": (PYRAMID[:4], {"num_csp_blocks": 1}, {"num_blocks": 1}),
    "HybridEncoder": (
        PYRAMID,
        {"num_outs": 5, "num_blocks": 1, "mlp_channels": 32},
        {"extra_levels": {"num_levels": 1}, "num_blocks": 1, "mlp_channels": 32},
    ),
    "SimpleFeaturePyramid": (PYRAMID, {"num_outs": 5}, {"extra_levels": {"num_levels": 1}}),
    "MultiScaleProjector": (
        PYRAMID[1:],
        {"num_outs": 4, "num_blocks": 1},
        {"extra_levels": {"num_levels": 1}, "num_blocks": 1},
    ),
    "ChannelMapper": (
        PYRAMID,
        {"num_outs": 5},
        {"extra_levels": {"num_levels": 1, "op": "conv", "source": "input", "bare": False}},
    ),
    "HRFPN": (PYRAMID, {"num_outs": 5}, {}),
    "DilatedEncoder": ([32], {"block_mid_channels": 8, "num_residual_blocks": 1, "block_dilations": [2]}, {}),
    "SSH": (PYRAMID[:4], {"num_scales": 4}, {}),
    # as for PanopticFPN, the mask map comes first
    "MSDeformAttnPixelDecoder": (
        [4, *PYRAMID[:4]],
        {
            **{"feat_channels": CHANNELS, "num_outs": 4, "as_neck": True, "num_layers": 1, "ffn_channels": 16},
            "positional_encoding": {"num_feats": CHANNELS // 2, "normalize": True},
        },
        {"mask_channels": CHANNELS, "num_outs": 4, "num_layers": 1, "ffn_channels": 16},
    ),
    "BFP": (PYRAMID, None, None),
    "DyHead": (PYRAMID, None, None),
    "RFP": (
        PYRAMID,
        {"num_outs": 5, "rfp_steps": 2, "aspp_out_channels": 4, "rfp_backbone": SMALL_BACKBONE},
        {"extra_levels": {"num_levels": 1}, "aspp_channels": 4, "backbone": SMALL_BACKBONE},
    ),
    # the semantic map comes first; mmdet's dense heads take it for one more level
    "PanopticFPN": (
        [4, *PYRAMID],
        {"num_outs": 5, "inner_channels": CHANNELS},
        {"extra_levels": {"num_levels": 1}, "inner_channels": CHANNELS},
    ),
}
# necks for heads of their own, which tests/adapters/mmdet/test_own_heads.py trains: they have mmdet's vocabulary, and
# SSD's levels have the backbone's widths, which no head of Detectron2 takes
OWN_HEADS = {"CTResNetNeck", "SSDNeck", "YOLOV3Neck"}
# maps of the network that a neck reads, unless it reads all of C2..C5
CHANGES: dict[str, dict[str, Any]] = dict.fromkeys(
    ("SimpleFeaturePyramid", "MultiScaleProjector"), {"out_indices": [3]}
)
CHANGES["RFP"] = {"type": "DetectoRSResNet", "base_channels": 2, "output_image": True}
# necks after an FPN -> their arguments in mmdet's vocabulary and in Detectron2's
AFTER_FPN: dict[str, tuple[Any, Any]] = {
    "BFP": ({"in_channels": CHANNELS, "num_levels": 5, "refine_type": "non_local"}, {}),
    "DyHead": ({"in_channels": CHANNELS, "out_channels": CHANNELS, "num_blocks": 1}, {"num_blocks": 1}),
}


def test_every_case_is_a_neck() -> None:
    assert set(CASES) <= set(NECKS)


def case(name: str) -> tuple[list[int], Any, Any]:
    """Return the case of a neck, by default with nothing but its output channels."""
    if name in CASES:
        return CASES[name]
    neck = build_neck({"type": name, "out_channels": CHANNELS}, C2_TO_C5)
    return [spec.stride for spec in neck.out_specs(C2_TO_C5)], {}, {}


def mmdet_neck(name: str) -> Any:
    """Return the neck's config for mmdet; some necks follow an FPN."""
    if name in AFTER_FPN:
        fpn = {"type": "fpn_plugins.FPN", "in_channels": [24, 32, 96, 320], "out_channels": CHANNELS, "num_outs": 5}
        return [fpn, {"type": f"fpn_plugins.{name}", **AFTER_FPN[name][0]}]
    return {"type": name, "out_channels": CHANNELS, **case(name)[1]}


def detectron2_neck(name: str) -> Any:
    """Return the neck's config for Detectron2."""
    if name in AFTER_FPN:
        fpn = {"type": "FPN", "out_channels": CHANNELS, "extra_levels": {"num_levels": 1}}
        return [fpn, {"type": name, **AFTER_FPN[name][1]}]
    return {"type": name, "out_channels": CHANNELS, **case(name)[2]}


@pytest.mark.mmdet
@pytest.mark.parametrize("name", sorted(NECKS.keys() - OWN_HEADS))
def test_mmdet(name: str, train_in_mmdet: Callable[..., None]) -> None:
    train_in_mmdet("neck", mmdet_neck(name), strides=case(name)[0], backbone=CHANGES.get(name))


@pytest.mark.detectron2
@pytest.mark.parametrize("name", sorted(NECKS.keys() - {"SSDNeck"}))
def test_detectron2(name: str, train_in_detectron2: Callable[..., None]) -> None:
    levels = sorted(set(case(name)[0]))  # these heads choose levels by name, and leave the semantic map alone
    train_in_detectron2("neck", detectron2_neck(name), strides=levels, backbone=CHANGES.get(name))
