"""Cascade Mask R-CNN, MViTv2-L from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (64 images a batch).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network, other data and a longer schedule, for which Detectron2's
``projects/MViTv2`` publishes box AP 55.8, mask AP 48.3 (``cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep``).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_l_fpn_50e.py
"""

from .cascade_mask_rcnn_mvitv2_t_fpn_36e import model, optimizer
from .common.data import lsj_data
from .common.mvit import mvit_weights
from .common.recipe import EPOCHS_100, STEPS_100, amp_training, schedule

model.backbone.bottom_up.update(name="mvitv2_large_cls", drop_path_rate=0.5)
dataloader = lsj_data()
optimizer.lr = 1e-4
train = amp_training(EPOCHS_100 // 2, mvit_weights("MViTv2_L_in21k"))
lr_multiplier = schedule(train.max_iter, [step // 2 for step in STEPS_100])
