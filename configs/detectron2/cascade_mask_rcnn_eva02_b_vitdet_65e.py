"""Cascade Mask R-CNN, EVA-02 B, simple pyramid, 65 epochs of COCO with large-scale jitter (60000 x 128 images).

The published recipe of ``eva02_B_coco_bsl``, box AP 55.5, mask AP 47.1 (baaivision/EVA, ``EVA-02/det``): 60000
iterations of 128 images, rates, drop path, decay of all weights, and windows of 16 tokens without a class token and
with positions of their own. timm fetches the pre-trained weights; their filters are resized from patches of 14 pixels
to 16.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/cascade_mask_rcnn_eva02_b_vitdet_65e.py
"""

from .common.cascade import use_cascade
from .common.recipe import schedule
from .common.vitdet import decay_all, vitdet_adamw, vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, train

model = vitdet_model(
    dict(
        type="ViT",
        name="eva02_base_patch14_224.mim_in22k",
        patch_size=16,
        pretrained=True,
        drop_path_rate=0.1,
        window_size=16,
        prefix_tokens_in_windows="drop",
        window_positions="window",
        antialias_positions=False,
    )
)
use_cascade(model)
dataloader.train.total_batch_size = 128
optimizer = decay_all(vitdet_adamw(decay=0.7, depth=12, lr=5e-5))
train.max_iter = 60000
lr_multiplier = schedule(train.max_iter, [48000, 54000], warmup=1000)
train.init_checkpoint = ""
