"""Cascade Mask R-CNN, MViTv2-T, FPN, 36 epochs of COCO at several scales (16 x 4 images).

The settings of Detectron2's ``projects/MViTv2``, which publishes box AP 52.2, mask AP 45.0. mmdet weights the losses of
the stages by 1, 0.5 and 0.25, and trains one mask head per stage, whose masks it averages; Detectron2 weights them
equally, scales their gradients to a third, and has one mask head. The ImageNet weights first:

    curl -o data/weights/MViTv2_T_in1k.pyth --create-dirs \\
        https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_T_in1k.pyth
    python tools/train.py configs/mmdet/cascade_mask_rcnn_mvitv2_t_fpn_36e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_mvitv2.py", "_base_/coco_multi_scale.py", "_base_/mvitv2_36e.py"]
model = dict(backbone=dict(backbone={{_base_.mvit}}))
