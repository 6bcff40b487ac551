"""Our FPN instead of Detectron2's in its own LazyConfigs."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7

from fpn_plugins.adapters.detectron2 import PyramidBackbone

# P6 max-pooled from P5 for two-stage detectors; P6 and P7 convolved from C5, with the ReLU between them, for RetinaNet
EXTRA_LEVELS = {
    LastLevelMaxPool: dict(num_levels=1, op="max_pool"),
    LastLevelP6P7: dict(num_levels=2, op="conv", source="input", relu=True),
}


def use_fpn(model, bottom_up=None):
    """Replace ``model.backbone`` by our FPN with the same channels and extra levels.

    Args:
        model: model of one of Detectron2's LazyConfigs.
        bottom_up: type and arguments of one of our backbones; ``None`` keeps the ResNet of ``model``.
    """
    stock = model.backbone
    extra_levels = EXTRA_LEVELS[stock.top_block._target_]
    neck = dict(type="FPN", out_channels=stock.out_channels, extra_levels=extra_levels)
    if bottom_up is None:
        own = dict(bottom_up=stock.bottom_up, in_features="${.bottom_up.out_features}")
    else:
        own = dict(bottom_up=bottom_up)
    model.backbone = L(PyramidBackbone)(**own, neck=neck)
