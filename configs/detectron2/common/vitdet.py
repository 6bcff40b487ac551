"""ViTDet's data, schedule and heads, and our ViT and pyramid in the place of Detectron2's (``projects/ViTDet``).

The wheel of Detectron2 ships ``common/models/mask_rcnn_vitdet.py`` and not the project's files, so that these are
stated here (arXiv:2203.16527, appendix).
"""

from functools import partial

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from fpn_plugins.adapters.detectron2 import PyramidBackbone
from fpn_plugins.training import vit_lr_factor

IMAGE_SIZE = 1024
EPOCHS_100 = 184375  # iterations of 64 images: 100 * 118287 / 64


def vitdet_model():
    """Mask R-CNN of ViTDet-B with our backbone in its place."""
    model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    model.backbone = pyramid_backbone(
        {
            "type": "ViT",
            "img_size": IMAGE_SIZE,
            "embed_dim": 768,
            "depth": 12,
            "num_heads": 12,
            "drop_path_rate": 0.1,
            "window_size": 14,
            "global_block_indices": [2, 5, 8, 11],
        },
        {"type": "SimpleFeaturePyramid", "out_channels": 256, "norm": "LN", "extra_levels": {"num_levels": 1}},
    )
    return model


def pyramid_backbone(bottom_up, neck):
    """Images are padded to squares, with zeros after normalisation."""
    return L(PyramidBackbone)(bottom_up=bottom_up, neck=neck, square_pad=IMAGE_SIZE)


def lsj_data():
    """COCO with large-scale jitter: a crop of the image at 0.1 to 2 times ``IMAGE_SIZE``, in batches of 64."""
    dataloader = model_zoo.get_config("common/data/coco.py").dataloader
    dataloader.train.mapper.augmentations = [
        L(T.RandomFlip)(horizontal=True),
        L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE, target_width=IMAGE_SIZE),
        L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE, IMAGE_SIZE), pad=False),
    ]
    dataloader.train.mapper.image_format = "RGB"
    dataloader.train.mapper.recompute_boxes = True  # of what the crop leaves of the mask
    dataloader.train.total_batch_size = 64
    dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=IMAGE_SIZE, max_size=IMAGE_SIZE)]
    return dataloader


def adamw(decay, depth):
    """AdamW with layer-wise learning rates; norms and position embeddings are not decayed."""
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.params.lr_factor_func = partial(vit_lr_factor, decay=decay, depth=depth)
    optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
    return optimizer


def schedule(max_iter, milestones):
    """Two steps down by ten, after 250 iterations of warm-up."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones, num_updates=max_iter),
        warmup_length=250 / max_iter,
        warmup_factor=0.001,
    )


def training(max_iter, weights):
    """Mixed precision; ``weights`` is the name of one of MAE's files, whose names are matched by their ends."""
    train = model_zoo.get_config("common/train.py").train
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    train.max_iter = max_iter
    train.init_checkpoint = f"detectron2://ImageNetPretrained/MAE/{weights}?matching_heuristics=True"
    return train
