"""Swin under our necks in Detectron2's own LazyConfigs, and the recipe that Swin is trained with."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import PyramidBackbone

_constants = model_zoo.get_config("common/data/constants.py").constants
_weights = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0"


def use_swin(model, train, name, extra_levels, release=None, norm=None, **arguments):
    """Replace ``model.backbone`` by a Swin with an FPN, and start from the official ImageNet weights.

    Args:
        model: its backbone's ``out_channels`` stay.
        train: its ``init_checkpoint`` is set.
        name: one of the names that `fpn_plugins.Swin` knows.
        extra_levels: the FPN's.
        release: file of the weights without suffix, where it is not called ``name``.
        norm: the FPN's.
        arguments: more of Swin's.
    """
    bottom_up = {"type": "Swin", "name": name, **arguments}
    neck = {"type": "FPN", "out_channels": model.backbone.out_channels, "norm": norm, "extra_levels": extra_levels}
    model.backbone = L(PyramidBackbone)(bottom_up=bottom_up, neck=neck)
    model.input_format = "RGB"
    model.pixel_mean = _constants.imagenet_rgb256_mean
    model.pixel_std = _constants.imagenet_rgb256_std
    # a classifier's keys, without the detector's prefix
    train.init_checkpoint = f"{_weights}/{release or name}.pth?matching_heuristics=True"


def adamw(lr, weight_decay=0.05):
    """AdamW as Swin is trained: norms, tables of relative positions and position embeddings are not decayed."""
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.lr = lr
    optimizer.weight_decay = weight_decay
    optimizer.params.overrides = {
        name: {"weight_decay": 0.0} for name in ("relative_position_bias_table", "absolute_pos_embed")
    }
    return optimizer
