"""Parts of Detectron2's own LazyConfigs, and the folder that a training writes to."""

import sys
from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import LazyConfig

_constants = model_zoo.get_config("common/data/constants.py").constants


def stock_parts(name):
    """Return dataloader, lr_multiplier, model, optimizer and train of one of Detectron2's own configs."""
    cfg = model_zoo.get_config(name)
    cfg.train.output_dir = output_dir()
    return cfg.dataloader, cfg.lr_multiplier, cfg.model, cfg.optimizer, cfg.train


def stock_train():
    """Return Detectron2's common ``train`` settings."""
    train = model_zoo.get_config("common/train.py").train
    train.output_dir = output_dir()
    return train


def output_dir():
    """Return ``work_dirs/STEM_detectron2``, where STEM names the config that is being loaded.

    That is the outermost file: a config that imports another one writes to a folder of its own, as with mmdet.
    """
    frame, stem = sys._getframe(), "lazyconfig"
    while frame:
        if frame.f_code is LazyConfig.load.__code__:
            stem = Path(frame.f_locals["filename"]).stem
        frame = frame.f_back
    return f"work_dirs/{stem}_detectron2"


def use_rgb(model, dataloader):
    """Read images as RGB and normalize them with ImageNet's mean and standard deviation."""
    model.input_format = dataloader.train.mapper.image_format = "RGB"
    model.pixel_mean = _constants.imagenet_rgb256_mean
    model.pixel_std = _constants.imagenet_rgb256_std
