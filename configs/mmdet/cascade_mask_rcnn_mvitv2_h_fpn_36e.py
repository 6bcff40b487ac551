"""Cascade Mask R-CNN, MViTv2-H of ImageNet-21k, FPN, 36 epochs of COCO with large-scale jitter (16 x 4 images).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network and other data; Detectron2 publishes box AP 56.1, mask AP
48.5 for it. Its images below 1024 pixels are padded with grey, here with zeros.

    curl -o data/weights/MViTv2_H_in21k.pyth --create-dirs \\
        https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_H_in21k.pyth
    python tools/train.py configs/mmdet/cascade_mask_rcnn_mvitv2_h_fpn_36e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_mvitv2.py", "_base_/mvitv2_lsj.py", "_base_/mvitv2_36e.py"]
model = dict(
    # every training image is filled up to the whole square, as in Detectron2
    data_preprocessor=dict(batch_augments=[dict(type="BatchFixedSizePad", size=(1024, 1024), pad_mask=True)]),
    backbone=dict(
        backbone=dict(
            name="mvitv2_huge_cls",
            drop_path_rate=0.6,
            gradient_checkpointing=True,
            checkpoint="data/weights/MViTv2_H_in21k.pyth",
        )
    ),
)
