"""Mask R-CNN, MViTv2-T, FPN, 36 epochs of COCO at several scales (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, which publishes box AP 48.3, mask AP 43.8 for
``mask_rcnn_mvitv2_t_3x``.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_mvitv2_t_fpn_36e.py
"""

from detectron2 import model_zoo

from .common.data import multi_scale_data
from .common.mvit import mvit_weights
from .common.neck import use_fpn
from .common.recipe import EPOCHS_36, STEPS_36, adamw, amp_training, schedule
from .common.stock import use_rgb

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
dataloader = multi_scale_data()
use_fpn(
    model,
    bottom_up=dict(type="MViT", name="mvitv2_tiny", drop_path_rate=0.2, gradient_checkpointing=False),
)
use_rgb(model, dataloader)
optimizer = adamw(lr=1.6e-4, not_decayed=("pos_embed", "rel_pos_h", "rel_pos_w"))
lr_multiplier = schedule(EPOCHS_36, STEPS_36)
train = amp_training(EPOCHS_36, mvit_weights("MViTv2_T_in1k"))
