"""Our ViT and pyramid in Detectron2's ``mask_rcnn_vitdet``, and ViTDet's data and optimizer (``projects/ViTDet``).

Detectron2's wheel ships ``common/models/mask_rcnn_vitdet.py`` but not the project's files, so their settings are stated
here (arXiv:2203.16527, appendix).
"""

from functools import partial

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import PyramidBackbone
from fpn_plugins.training import vit_lr_factor

from .data import IMAGE_SIZE, lsj_data
from .recipe import adamw


def vitdet_model(bottom_up, neck="SimpleFeaturePyramid"):
    """Return ViTDet's Mask R-CNN on one of our backbones; images are padded to squares, with zeros after normalization.

    Args:
        bottom_up: type and arguments of the backbone.
        neck: type of the neck.
    """
    model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    model.backbone = L(PyramidBackbone)(
        bottom_up=bottom_up,
        neck=dict(type=neck, out_channels=256, norm="LN", extra_levels=dict(num_levels=1)),
        square_pad=IMAGE_SIZE,
    )
    return model


def vitdet_data():
    """Return COCO with large-scale jitter, unpadded (the model pads), evaluated at ``IMAGE_SIZE``."""
    dataloader = lsj_data(pad=False)
    dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=IMAGE_SIZE, max_size=IMAGE_SIZE)]
    return dataloader


def vitdet_adamw(decay, depth, lr=1e-4):
    """Return AdamW whose learning rates fall by ``decay`` per layer.

    Norms and position embeddings are not decayed; nor are the tokens and LayerScale's factors of foundation models.
    """
    optimizer = adamw(lr, not_decayed=("pos_embed", "cls_token", "reg_token", "gamma"))
    optimizer.params.lr_factor_func = partial(vit_lr_factor, decay=decay, depth=depth)
    return optimizer


def decay_all(optimizer):
    """Decay norms, embeddings, tokens and factors like the rest; return the optimizer."""
    optimizer.params.update(overrides={}, weight_decay_norm=None)
    return optimizer


def mae_weights(name):
    """Return the address of one of MAE's files; keys are matched by their ends."""
    return f"detectron2://ImageNetPretrained/MAE/{name}.pth?matching_heuristics=True"
