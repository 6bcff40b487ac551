"""Sanity check of the whole chain: overfit ``study_mask_rcnn`` on 16 photographs.

    python tools/demo.py --prepare-only
    python tools/make_coco_subset.py data/coco data/coco16 --num-images 16
    FPN_PLUGINS_COCO=data/coco16 python tools/train_net.py --config-file configs/detectron2/mask_rcnn_overfit.py

Trains and evaluates on the same 16 images; the final box AP50 has to be 0.8 or more.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .study_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

_max_iter = 1000

_resize = L(T.ResizeShortestEdge)(short_edge_length=384, max_size=512)
dataloader.train.mapper.augmentations = [_resize]
dataloader.test.mapper.augmentations = [_resize]
train.max_iter = train.eval_period = train.checkpointer.period = _max_iter
lr_multiplier.warmup_length = 50 / _max_iter
