"""Mask R-CNN of Detectron2's own Swin-T and FPN, for comparisons; Detectron2 ships the modules but no such config."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import SwinTransformer

model = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py").model
model.backbone.bottom_up = L(SwinTransformer)(drop_path_rate=0.2)
model.backbone.in_features = [f"p{stage}" for stage in range(4)]
model.pixel_mean, model.pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
model.input_format = "RGB"
