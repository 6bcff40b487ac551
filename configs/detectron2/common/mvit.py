"""MViTv2 under our necks, and the data, schedule and heads that Detectron2's ``projects/MViTv2`` trains it with.

The wheel of Detectron2 does not ship the project's files, so that these are stated here (arXiv:2112.01526, section
5.2).
"""

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import PyramidBackbone

from .cascade import use_cascade
from .neck import TWO_STAGE
from .vitdet import IMAGE_SIZE

EPOCHS_36 = 67500  # iterations of 64 images
SHORT_EDGES = tuple(range(480, 801, 32))
# over images of all processes, and for those that have no box: heads may get empty inputs
SYNC_BN = "naiveSyncBN_N"

_constants = model_zoo.get_config("common/data/constants.py").constants


def mask_rcnn(name, drop_path_rate):
    """Detectron2's Mask R-CNN on an FPN on one of the networks that `fpn_plugins.MViT` knows."""
    model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    model.backbone = L(PyramidBackbone)(
        bottom_up={"type": "MViT", "name": name, "drop_path_rate": drop_path_rate, "gradient_checkpointing": False},
        neck={"type": "FPN", "out_channels": model.backbone.out_channels, "extra_levels": TWO_STAGE},
    )
    model.input_format = "RGB"
    model.pixel_mean = _constants.imagenet_rgb256_mean
    model.pixel_std = _constants.imagenet_rgb256_std
    return model


def cascade_mask_rcnn(name, drop_path_rate):
    """The same with three box heads of four convolutions, batch norms in the heads, and an RPN of two convolutions."""
    model = mask_rcnn(name, drop_path_rate)
    use_cascade(model)
    for head in model.roi_heads.box_heads:
        head.conv_norm = SYNC_BN
    model.roi_heads.mask_head.conv_norm = SYNC_BN
    model.proposal_generator.head.conv_dims = [-1, -1]
    return model


def multi_scale_data():
    """COCO at 480 to 800 pixels, half of the images cropped before, in batches of 64."""
    crop = [
        L(T.ResizeShortestEdge)(short_edge_length=[400, 500, 600], sample_style="choice"),
        L(T.RandomCrop)(crop_type="absolute_range", crop_size=(384, 600)),
    ]
    return _data(
        L(T.RandomApply)(tfm_or_aug=L(T.AugmentationList)(augs=crop), prob=0.5),
        L(T.ResizeShortestEdge)(short_edge_length=SHORT_EDGES, sample_style="choice", max_size=1333),
        L(T.RandomFlip)(horizontal=True),
    )


def lsj_data():
    """COCO with large-scale jitter, in batches of 64; images below 1024 pixels are padded, with grey."""
    dataloader = _data(
        L(T.RandomFlip)(horizontal=True),
        L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE, target_width=IMAGE_SIZE),
        L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE, IMAGE_SIZE)),
    )
    dataloader.train.mapper.recompute_boxes = True  # of what the crop leaves of the mask
    return dataloader


def _data(*augmentations):
    dataloader = model_zoo.get_config("common/data/coco.py").dataloader
    dataloader.train.mapper.augmentations = list(augmentations)
    dataloader.train.mapper.image_format = "RGB"
    dataloader.train.total_batch_size = 64
    return dataloader


def adamw():
    """AdamW of the project: norms and relative positions are not decayed."""
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.lr = 1.6e-4
    optimizer.params.overrides = {name: {"weight_decay": 0.0} for name in ("pos_embed", "rel_pos_h", "rel_pos_w")}
    return optimizer


def training(weights, max_iter=EPOCHS_36):
    """Mixed precision; ``weights`` is one of the official ImageNet files."""
    train = model_zoo.get_config("common/train.py").train
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    train.max_iter = max_iter
    train.init_checkpoint = f"detectron2://ImageNetPretrained/mvitv2/{weights}.pyth"
    return train
