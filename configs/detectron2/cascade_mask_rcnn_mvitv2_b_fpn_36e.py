"""Cascade Mask R-CNN, MViTv2-B, FPN, 36 epochs of COCO at several scales (64 images a batch).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network, for which Detectron2's ``projects/MViTv2`` publishes box
AP 54.1, mask AP 46.7 (``cascade_mask_rcnn_mvitv2_b_3x``).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_b_fpn_36e.py
"""

from .cascade_mask_rcnn_mvitv2_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train
from .common.mvit import mvit_weights

model.backbone.bottom_up.update(name="mvitv2_base", drop_path_rate=0.4)
train.init_checkpoint = mvit_weights("MViTv2_B_in1k")
