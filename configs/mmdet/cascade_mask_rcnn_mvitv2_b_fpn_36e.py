"""Cascade Mask R-CNN, MViTv2-B, FPN, 36 epochs of COCO at several scales (16 x 4 images).

``cascade_mask_rcnn_mvitv2_t_fpn_36e`` with the larger network, for which Detectron2 publishes box AP 54.1, mask AP
46.7.

    curl -o data/weights/MViTv2_B_in1k.pyth --create-dirs \\
        https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_B_in1k.pyth
    python tools/train.py configs/mmdet/cascade_mask_rcnn_mvitv2_b_fpn_36e.py
"""

_base_ = "cascade_mask_rcnn_mvitv2_t_fpn_36e.py"
model = dict(
    backbone=dict(backbone=dict(name="mvitv2_base", drop_path_rate=0.4, checkpoint="data/weights/MViTv2_B_in1k.pyth"))
)
