"""Any COCO-format folder: splits, file names and classes are read from it.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Its splits are
``coco_folder_train`` and ``coco_folder_val``; configs import ``num_classes`` from here.
"""

import os

from detectron2 import model_zoo

from fpn_plugins.adapters.detectron2 import register_coco_folder as _register
from fpn_plugins.data import find_split as _find_split

_root = os.environ.get("FPN_PLUGINS_COCO", "data/coco")
_train, _val = _register(_root)
num_classes = len(_find_split(_root, "train").categories)

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = _train
dataloader.test.dataset.names = _val
dataloader.train.mapper.instance_mask_format = "bitmask"  # accepts both polygons and RLE
