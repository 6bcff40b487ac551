"""Any panoptic COCO folder: files and classes are read from it.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Its splits are
``coco_panoptic_folder_train_separated`` and ``..._val_separated``; configs import ``num_stuff`` from here.
"""

import os

from detectron2 import model_zoo

from fpn_plugins.adapters.detectron2 import register_coco_panoptic_folder as _register
from fpn_plugins.data import find_panoptic_split as _find_split

from .panoptic import use_label_loader as _use_label_loader

_root = os.environ.get("FPN_PLUGINS_COCO", "data/coco")
_train, _val = _register(_root)
num_stuff = len(_find_split(_root, "train").stuff)

dataloader = model_zoo.get_config("common/data/coco_panoptic_separated.py").dataloader
dataloader.train.dataset.names = _train
dataloader.test.dataset.names = _val
dataloader.train.mapper.instance_mask_format = "bitmask"  # accepts both polygons and RLE
_use_label_loader(dataloader)
