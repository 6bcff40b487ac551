"""Any panoptic COCO folder: files and classes are read from it.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Its splits are
``coco_panoptic_folder_train_separated`` and ``..._val_separated``; configs import ``num_stuff`` from here.
"""

from detectron2 import model_zoo

from fpn_plugins.adapters.detectron2 import register_coco_panoptic_folder as _register
from fpn_plugins.data import environment_folder as _folder
from fpn_plugins.data import environment_splits as _splits
from fpn_plugins.data import find_panoptic_split as _find_split

from .panoptic import use_label_loader as _use_label_loader

num_stuff = len(_splits(_find_split)[0].stuff)
_train, _val = _register(_folder())

dataloader = model_zoo.get_config("common/data/coco_panoptic_separated.py").dataloader
dataloader.train.dataset.names = _train
dataloader.test.dataset.names = _val
dataloader.train.mapper.instance_mask_format = "bitmask"  # accepts both polygons and RLE
_use_label_loader(dataloader)
