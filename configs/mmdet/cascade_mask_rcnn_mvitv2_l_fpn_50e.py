"""Cascade Mask R-CNN, MViTv2-L from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (16 x 4 images).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network, other data and a longer schedule, for which Detectron2
publishes box AP 55.8, mask AP 48.3. Detectron2 pads images below 1024 pixels with gray; this config pads them with
zeros.

    curl -o data/weights/MViTv2_L_in21k.pyth --create-dirs \\
        https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_L_in21k.pyth
    python tools/train.py configs/mmdet/cascade_mask_rcnn_mvitv2_l_fpn_50e.py
"""

_base_ = "_base_/cascade_mask_rcnn_mvitv2_lsj.py"
model = dict(
    backbone=dict(
        backbone=dict(name="mvitv2_large_cls", drop_path_rate=0.5, checkpoint="data/weights/MViTv2_L_in21k.pyth")
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
max_iters = 92187  # 184375 / 2
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[81944, 88773], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
