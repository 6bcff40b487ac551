"""RetinaNet, ResNet-50, FPN, losses weighted by level, 12 epochs of COCO (90000 iterations of 16 images).

``retinanet_r50_fpn_12e`` whose losses have a weight for each of P3-P7, computed from the sizes of the objects. These
weights come from 59 images of COCO; for the full set, or your own, print them with

    python tools/level_weights.py data/coco/annotations/instances_train2017.json

No result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_r50_fpn_level_weights_12e.py
"""

from fpn_plugins.adapters.detectron2 import FPNPluginsRetinaNet

from .retinanet_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model._target_ = FPNPluginsRetinaNet
model.level_weights = [0.779, 0.965, 1.086, 1.247, 1.756]
