"""Small arguments of every class under ``fpn_plugins`` in MMDetection's registry."""

from __future__ import annotations

from typing import Any

from registered import BACKBONE_ARGUMENTS

# a preprocessor, a layer, and a wrapper of whole detectors
NO_NETWORKS = {"DetDataPreprocessor", "LN2d", "MaskTTAModel"}
CNN = {"type": "TimmBackbone", "name": "resnet10t", "out_indices": (1, 2, 3)}
NECK = {"in_channels": [8, 16, 32], "out_channels": 8, "num_outs": 3}
FIVE = {"in_channels": [8, 16, 32, 64], "out_channels": 8, "num_outs": 5}
ARGUMENTS: dict[str, dict[str, Any]] = {
    **BACKBONE_ARGUMENTS,
    **dict.fromkeys(("FPN", "PAFPN", "SSDPyramid", "TopDownPyramid", "BiFPN", "PanopticFPN"), NECK),
    "SingleScale": {**NECK, "start_level": 1, "end_level": 1, "num_outs": 1},
    "NASFPN": {**FIVE, "stack_times": 1, "norm_cfg": {"type": "BN"}},
    "ChannelMapper": {"in_channels": [8, 16, 32], "out_channels": 8, "num_outs": 4},
    "FPG": {**FIVE, "stack_times": 1, "paths": ["bu"]},
    "CLRFPN": NECK,
    "CTResNetNeck": {"in_channels": 8, "num_deconv_filters": [8, 4], "num_deconv_kernels": [4, 4]},
    "SSDNeck": {"in_channels": [8], "out_channels": [8, 8, 4], "level_strides": [2, 2], "level_paddings": [1, 1]},
    "YOLOV3Neck": {"num_scales": 2, "in_channels": [8, 6], "out_channels": [8, 6]},
    "CSPNeXtPAFPN": {"in_channels": [8, 16, 32], "out_channels": 8},
    "CSPPAFPN": {"in_channels": [8, 16, 32], "out_channels": 8},
    "YOLOXPAFPN": {"in_channels": [8, 16, 32], "out_channels": 8},
    "DilatedEncoder": {
        **{"in_channels": 8, "out_channels": 8, "block_mid_channels": 4},
        **{"num_residual_blocks": 1, "block_dilations": (2,)},
    },
    "FPN_DropBlock": NECK,
    "HRFPN": NECK,
    "SSH": {"num_scales": 2, "in_channels": [8, 16], "out_channels": [8, 16]},
    "BFP": {"in_channels": 8, "num_levels": 3, "refine_type": "conv"},
    "SimpleFeaturePyramid": {"in_channels": [8], "out_channels": 8, "num_outs": 4},
    "MSDeformAttnPixelDecoder": {
        **{"in_channels": [8, 8, 8, 8], "feat_channels": 32, "out_channels": 8},
        "positional_encoding": {"num_feats": 16, "normalize": True},
    },
    "HybridEncoder": {**NECK, "mlp_channels": 8},
    "MultiScaleProjector": {"in_channels": [8, 8], "out_channels": 8, "num_outs": 3},
    "SwinTransformer": {"embed_dims": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
    "PyramidBackbone": {"backbone": CNN, "neck": {"type": "FPN", "out_channels": 8, "num_outs": 3}},
    "CorePyramid": {"backbone": CNN, "neck": {"type": "FPN", "out_channels": 8}},
    "PanopticFPNHead": {"in_channels": 8, "inner_channels": 4, "norm_cfg": None},
    "RetinaHead": {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1},
}
