"""Configs of tiny detectors of both toolboxes whose pyramid is compiled in place, or is not."""

from __future__ import annotations

from pathlib import Path

from registered import BACKBONE_ARGUMENTS
from tiny_detector import write_config

RECORDED = {"backend": "eager", "fullgraph": True}  # records as the default backend does, and compiles nothing
SWIN = {**BACKBONE_ARGUMENTS["Swin"], "embed_dim": 8, "num_heads": (1, 1, 2, 2), "depths": (1, 1, 1, 1)}
CONFIGURED = """
model["bbox_head"].update(num_classes=9, loss_cls=dict(type="FocalLoss", use_sigmoid=True))
model["train_cfg"] = dict(
    assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
    sampler=dict(type="PseudoSampler"),
    allowed_border=-1,
    pos_weight=-1,
)
model["test_cfg"] = dict(nms_pre=100, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20)
"""
# each part of the detector takes `compile`: one module, or two
MMDET = {
    "one": f"""
model["backbone"] = dict(
    type="fpn_plugins.PyramidBackbone",
    backbone=dict(type="Swin", **{SWIN}),
    neck=dict(type="FPN", out_channels=4, num_outs=2, start_level=2),
    compile=COMPILE,
)
model["neck"] = None
""",
    "two": f"""
model["backbone"] = dict(type="fpn_plugins.Swin", out_indices=(2, 3), compile=COMPILE, **{SWIN})
model["neck"].update(in_channels=[32, 64], compile=COMPILE)
""",
}
YAML = (
    f"""
MODEL:
  META_ARCHITECTURE: RetinaNet
  DEVICE: cpu
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  BACKBONE: {{NAME: build_fpn_plugins_backbone}}
  FPN_PLUGINS:
    BACKBONE: {{TYPE: Swin, ARGS: {SWIN}}}
    NECK: {{TYPE: FPN, ARGS: {{out_channels: 4, in_indices: [2, 3]}}}}
    COMPILE: COMPILED
    COMPILE_OPTIONS: {RECORDED}
  RETINANET: {{NUM_CLASSES: 9, NUM_CONVS: 1, IN_FEATURES: [p4, p5], SCORE_THRESH_TEST: 0.0}}
  ANCHOR_GENERATOR: {{SIZES: [[64], [128]]}}
INPUT: {{FORMAT: RGB}}
VERSION: 2
""".replace("'", '"')
    .replace("(", "[")
    .replace(")", "]")
)


def config_of(folder: Path, toolbox: str, parts: str, compiled: bool) -> str:
    path = folder / f"{compiled}.{'py' if toolbox == 'mmdet' else 'yaml'}"
    if toolbox == "mmdet":
        return str(
            write_config(path, (CONFIGURED + MMDET[parts]).replace("COMPILE", repr(RECORDED if compiled else False)))
        )
    path.write_text(YAML.replace("COMPILED", str(compiled)))
    return str(path)
