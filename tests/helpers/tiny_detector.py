"""A RetinaNet of MMDetection with a thousand weights: what commands publish and convert in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

CONFIG = """
model = dict(
    type="mmdet.RetinaNet",
    data_preprocessor=dict(type="mmdet.DetDataPreprocessor", mean=[0, 0, 0], std=[1, 1, 1]),
    backbone=dict(type="mmdet.ResNet", depth=18, base_channels=4, out_indices=(2, 3)),
    neck=dict(type="fpn_plugins.FPN", in_channels=[16, 32], out_channels=4, num_outs=2),
    bbox_head=dict(
        type="mmdet.RetinaHead",
        num_classes=1,
        in_channels=4,
        stacked_convs=1,
        feat_channels=4,
        anchor_generator=dict(
            type="mmdet.AnchorGenerator", octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[16, 32]
        ),
    ),
)
"""


def write_config(path: Path, changes: str = "") -> Path:
    """Write the config, followed by lines that change it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG + changes)
    return path


def weights_of(config: Path) -> dict[str, Tensor]:
    """Freshly initialized weights of a config's detector."""
    from fpn_plugins.adapters.hosts import build_detector

    detector: Any = build_detector(str(config))
    return detector.state_dict()
