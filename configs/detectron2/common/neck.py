"""Our FPN in the place of Detectron2's in its own LazyConfigs."""

from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import PyramidBackbone

# a max-pooled P6 for two-stage detectors; P6 and P7 from C5, with the ReLU between them, for RetinaNet
TWO_STAGE = {"num_levels": 1, "op": "max_pool"}
RETINANET = {"num_levels": 2, "op": "conv", "source": "input", "relu": True}


def use_fpn(model, extra_levels):
    """Replace ``model.backbone``, keeping its ``bottom_up`` and the number of channels."""
    stock = model.backbone
    neck = {"type": "FPN", "out_channels": stock.out_channels, "extra_levels": extra_levels}
    model.backbone = L(PyramidBackbone)(bottom_up=stock.bottom_up, neck=neck, in_features="${.bottom_up.out_features}")
