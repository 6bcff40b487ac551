"""Any COCO-format folder: splits, file names and classes are read from it.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Its splits are
``coco_folder_train`` and ``coco_folder_val``; configs import ``num_classes`` from here.
"""

from detectron2 import model_zoo

from fpn_plugins.adapters.detectron2 import register_coco_folder as _register
from fpn_plugins.data import environment_folder as _folder
from fpn_plugins.data import environment_splits as _splits

num_classes = len(_splits()[0].categories)
_train, _val = _register(_folder())

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = _train
dataloader.test.dataset.names = _val
dataloader.train.mapper.instance_mask_format = "bitmask"  # accepts both polygons and RLE
