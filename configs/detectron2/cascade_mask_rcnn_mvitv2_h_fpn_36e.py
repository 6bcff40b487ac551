"""Cascade Mask R-CNN, MViTv2-H from ImageNet-21k, FPN, 36 epochs of COCO with large-scale jitter (64 images a batch).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network and other data, for which Detectron2's
``projects/MViTv2`` publishes box AP 56.1, mask AP 48.5 (``cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x``).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_h_fpn_36e.py
"""

from .cascade_mask_rcnn_mvitv2_t_fpn_36e import lr_multiplier, model, optimizer, train
from .common.data import lsj_data
from .common.mvit import mvit_weights

model.backbone.bottom_up.update(name="mvitv2_huge_cls", drop_path_rate=0.6, gradient_checkpointing=True)
dataloader = lsj_data()
train.init_checkpoint = mvit_weights("MViTv2_H_in21k")
