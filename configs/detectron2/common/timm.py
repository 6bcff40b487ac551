"""Networks of timm under our FPN in Detectron2's own LazyConfigs."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import PyramidBackbone

_constants = model_zoo.get_config("common/data/constants.py").constants


def use_timm(model, extra_levels, **arguments):
    """Replace ``model.backbone`` by a `TimmBackbone` with an FPN of as many channels, on pixels as ImageNet's."""
    neck = {"type": "FPN", "out_channels": model.backbone.out_channels, "extra_levels": extra_levels}
    model.backbone = L(PyramidBackbone)(bottom_up={"type": "TimmBackbone", **arguments}, neck=neck)
    model.input_format = "RGB"
    model.pixel_mean = _constants.imagenet_rgb256_mean
    model.pixel_std = _constants.imagenet_rgb256_std
