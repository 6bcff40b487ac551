"""COCO for Transformer backbones: RGB images in batches of 64, at several scales or with large-scale jitter."""

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L

IMAGE_SIZE = 1024  # side of the square crop, in pixels


def multi_scale_data():
    """Return COCO at 480 to 800 pixels; half of the images are cropped first, as for DETR and its successors."""
    crop = [
        L(T.ResizeShortestEdge)(short_edge_length=[400, 500, 600], sample_style="choice"),
        L(T.RandomCrop)(crop_type="absolute_range", crop_size=(384, 600)),
    ]
    scales = tuple(range(480, 801, 32))
    return _data(
        L(T.RandomApply)(tfm_or_aug=L(T.AugmentationList)(augs=crop), prob=0.5),
        L(T.ResizeShortestEdge)(short_edge_length=scales, sample_style="choice", max_size=1333),
        L(T.RandomFlip)(horizontal=True),
    )


def lsj_data(**crop):
    """Return COCO with large-scale jitter: crops of the image at 0.1 to 2 times ``IMAGE_SIZE``.

    ``crop`` holds further arguments of ``FixedSizeCrop``, which by default pads smaller images with gray.
    """
    dataloader = _data(
        L(T.RandomFlip)(horizontal=True),
        L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE, target_width=IMAGE_SIZE),
        L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE, IMAGE_SIZE), **crop),
    )
    dataloader.train.mapper.recompute_boxes = True  # from the part of the mask inside the crop
    return dataloader


def _data(*augmentations):
    dataloader = model_zoo.get_config("common/data/coco.py").dataloader
    dataloader.train.mapper.augmentations = list(augmentations)
    dataloader.train.mapper.image_format = "RGB"
    dataloader.train.total_batch_size = 64
    return dataloader
