"""Build detectors of both toolboxes that find objects without training, for the table of engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fpn_plugins.adapters.hosts import host_of
from fpn_plugins.analysis import spread_predictions
from fpn_plugins.inference import ImagePredictor, ResizeRule

# shorter and longer side of the images, in pixels; none of them is traced
SIZES = ((96, 160), (128, 200), (160, 213), (200, 333), (240, 400))
CASES = {
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco.py", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
    "faster_rcnn": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
    "mask_rcnn": (
        "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    ),
    "cascade_mask_rcnn": (
        "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    ),
    "panoptic_fpn": (
        "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    ),
}
# pixels per cell of the coarsest map; PyTorch's exporter takes one cell for a constant, so `.pt2` files refuse it
COARSEST = {"retinanet": 128}
BOXES_ALONE = ("retinanet", "faster_rcnn")
DEPTHS = (18, 50)
COCO_CLASSES = 80
MMDET_R18 = ("model.backbone.depth=18", "model.neck.in_channels=[64,128,256,512]")
D2_R18 = ("MODEL.RESNETS.DEPTH=18", "MODEL.RESNETS.RES2_OUT_CHANNELS=64")
PROPOSALS = {"mmdet": "model.test_cfg.rpn.max_per_img=100", "detectron2": "MODEL.RPN.POST_NMS_TOPK_TEST=100"}
# masks take most of the time, so detectors with masks find at most 20 objects on a picture
OBJECTS = {"mmdet": "model.test_cfg.rcnn.max_per_img=20", "detectron2": "TEST.DETECTIONS_PER_IMAGE=20"}
# scores of random predictors are low; pictures are small
PANOPTIC = {
    "mmdet": ("model.test_cfg.rcnn.score_thr=0.05", "model.test_cfg.panoptic.stuff_area_limit=256"),
    "detectron2": (
        "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH=0.05",
        "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT=256",
    ),
}
CLASSES = {
    ("retinanet", "mmdet"): "model.bbox_head.num_classes",
    ("faster_rcnn", "mmdet"): "model.roi_head.bbox_head.num_classes",
    ("retinanet", "detectron2"): "MODEL.RETINANET.NUM_CLASSES",
    ("faster_rcnn", "detectron2"): "MODEL.ROI_HEADS.NUM_CLASSES",
}


def runs_at(kind: str, toolbox: str, engine: str, size: tuple[int, int]) -> bool:
    """Whether an engine runs a detector on photographs of a shorter and a longer side."""
    if engine == "itself" and toolbox == "mmdet" and kind != "retinanet":
        return False  # mmcv's compiled RoIAlign takes channels-last maps for contiguous ones
    return engine != "torch" or min(size) > COARSEST.get(kind, 64)


class Case(NamedTuple):
    """A detector of the table, and its photographs.

    Attributes:
        kind: key of `CASES`.
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        depth: number of layers of the ResNet.
        data: name of the photographs' folder.
        num_classes: number of classes of things.
    """

    kind: str
    toolbox: str
    depth: int = 18
    data: str = "coco_mini"
    num_classes: int = COCO_CLASSES

    @property
    def config(self) -> str:
        """Name of the toolbox's own config."""
        return f"{self.toolbox}::{CASES[self.kind][self.toolbox == 'detectron2']}"

    @property
    def options(self) -> list[str]:
        """Overrides of the config."""
        options = list(MMDET_R18 if self.toolbox == "mmdet" else D2_R18) if self.depth == DEPTHS[0] else []
        if self.kind != "retinanet":
            options.append(PROPOSALS[self.toolbox])
        if self.kind not in BOXES_ALONE:
            options.append(OBJECTS[self.toolbox])
        if self.kind == "panoptic_fpn":
            options += PANOPTIC[self.toolbox]
        if self.num_classes != COCO_CLASSES:
            options.append(f"{CLASSES[self.kind, self.toolbox]}={self.num_classes}")
        return options

    def row(self, engine: str) -> str:
        """Return the name of the row of an engine."""
        return ", ".join((self.kind, self.toolbox, engine, f"ResNet-{self.depth}", self.data))


def build(case: Case, photo: Any) -> ImagePredictor:
    """Build a detector that finds objects on a photograph."""
    torch.manual_seed(0)
    host = host_of(case.config, case.toolbox)
    model = host.build(case.config, case.options).eval()
    library = "opencv" if case.toolbox == "mmdet" else "pillow"
    predict = host.Predictor(model, rule=ResizeRule(*SIZES[2], library=library))
    run: Callable[[Any], object] = predict if predict.finds_objects else predict.panoptic
    spread_predictions(model, lambda: run(photo))
    return predict
