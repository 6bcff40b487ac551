"""Cascade Mask R-CNN, MViTv2-H from ImageNet-21k, FPN, 36 epochs of COCO with large-scale jitter (16 x 4 images).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network and other data, for which Detectron2 publishes box AP
56.1, mask AP 48.5. Detectron2 pads images below 1024 pixels with gray; this config pads them with zeros.

    curl -o data/weights/MViTv2_H_in21k.pyth --create-dirs \\
        https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_H_in21k.pyth
    python tools/train.py configs/mmdet/cascade_mask_rcnn_mvitv2_h_fpn_36e.py
"""

_base_ = "_base_/cascade_mask_rcnn_mvitv2_lsj.py"
model = dict(
    backbone=dict(
        backbone=dict(
            name="mvitv2_huge_cls",
            drop_path_rate=0.6,
            gradient_checkpointing=True,
            checkpoint="data/weights/MViTv2_H_in21k.pyth",
        )
    ),
)
