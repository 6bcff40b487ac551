"""Run mmdet's detectors on several views of an image, with masks at the merged boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models import TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...checks import integer, probability
from ...inference import Detections, MergeRule, View, merge_views
from ...registry import MODELS


class DetectorView(View):
    """View of an mmdet detector.

    Args:
        model: the detector.
        pixels: image ``3 H W`` as the test pipeline gives it to the data preprocessor.
        sample: its meta data: ``ori_shape``, ``img_shape``, ``scale_factor``, ``flip``, ``flip_direction``.
    """

    def __init__(self, model: Any, pixels: Tensor, sample: DetDataSample) -> None:
        super().__init__(sample.metainfo.get("flip_direction") if sample.metainfo.get("flip") else None)
        self.model, self.data = model, {"inputs": [pixels], "data_samples": [sample]}
        self.maps: Any = None

    def detect(self) -> Detections:
        """Detect objects; ``ValueError`` if the model returns no instances."""
        if not predicts_cells(self.model):
            return detections_of(self.model, self.model.test_step(self.data)[0])
        data, heads = self.model.data_preprocessor(self.data, False), self.model.roi_head
        samples = data["data_samples"]
        self.maps = self.model.extract_feat(data["inputs"])
        proposals = self.model.rpn_head.predict(self.maps, samples, rescale=False)
        metas = [sample.metainfo for sample in samples]
        found = heads.predict_bbox(self.maps, metas, proposals, rcnn_test_cfg=heads.test_cfg, rescale=True)[0]
        return Detections(found.bboxes, found.scores, found.labels)

    def mask_cells(self, boxes: Tensor, labels: Tensor) -> Tensor | None:
        """Predict mask probabilities of boxes; those of a cascade's stages are averaged, as mmdet does."""
        if self.maps is None:
            return None
        heads, scale = self.model.roi_head, self.data["data_samples"][0].metainfo["scale_factor"]
        regions = bbox2roi([boxes * boxes.new_tensor(scale).repeat(2)])
        if isinstance(heads, CascadeRoIHead):
            found = [heads._mask_forward(stage, self.maps, regions) for stage in range(heads.num_stages)]
        else:
            found = [heads._mask_forward(self.maps, regions)]
        cells = torch.stack([one["mask_preds"].sigmoid() for one in found]).mean(0)
        classes = torch.zeros_like(labels) if last(heads.mask_head).class_agnostic else labels
        return cells[torch.arange(len(cells), device=cells.device), classes]


def last(part: Any) -> Any:
    """Return a head, or that of a cascade's last stage."""
    return part[-1] if isinstance(part, nn.ModuleList) else part


def detections_of(model: Any, sample: DetDataSample) -> Detections:
    """Return the detections in a sample; ``ValueError`` if there are no instances."""
    if "pred_instances" not in sample:
        raise ValueError(
            f"{type(model).__name__} returns no instances but {sorted(sample.keys())}; a Predictor is for "
            "detectors (use mmdet's own inference for the segments of a panoptic one)"
        )
    found = sample.pred_instances
    masks = torch.as_tensor(found.masks).bool() if "masks" in found else None
    return Detections(found.bboxes, found.scores, found.labels, masks)


def predicts_cells(model: Any) -> bool:
    """Return whether a model is a (Cascade) Mask R-CNN whose steps are mmdet's own."""
    heads = getattr(model, "roi_head", None)
    if not (isinstance(model, TwoStageDetector) and model.with_rpn and heads is not None and heads.with_mask):
        return False
    own = CascadeRoIHead if isinstance(heads, CascadeRoIHead) else StandardRoIHead
    owners = [(heads, own, name) for name in ("predict", "predict_bbox", "predict_mask", "_mask_forward")]
    owners += [(model, TwoStageDetector, "predict"), (last(heads.mask_head), FCNMaskHead, "predict_by_feat")]
    return all(getattr(type(part), name) is getattr(kind, name, None) for part, kind, name in owners)


def merge_rule_of(model: Any) -> MergeRule:
    """Read the thresholds of a detector's ``test_cfg``; those of `MergeRule` where it has none."""
    cfg: Any = getattr(model, "test_cfg", None) or {}
    cfg = cfg.get("rcnn") or cfg
    nms, rule = cfg.get("nms") or {}, MergeRule()
    return MergeRule(
        nms.get("iou_threshold", rule.iou_threshold),
        cfg.get("max_per_img", rule.limit),
        cfg.get("mask_thr_binary", rule.mask_threshold),
    )


@MODELS.register_module()
class MaskTTAModel(DetTTAModel):
    """mmdet's ``DetTTAModel`` that merges masks too; any script of mmdet's runs it (``tools/test.py --tta``).

    Boxes of all views go through one non-maximum suppression per class. Mask R-CNN and Cascade Mask R-CNN predict masks
    at the merged boxes in every view, and average the probabilities; other detectors with masks keep the mask that
    they predicted with the box. Each image of a batch is computed alone.

    Args:
        module: the detector, or its config.
        tta_cfg: ``dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)``, as mmdet's; what is missing is
            that of the detector's own ``test_cfg``.
        **kwargs: mmdet's.

    Raises:
        ValueError: a kind of ``nms`` other than ``"nms"``, or a value out of range.
    """

    def __init__(self, module: Any, tta_cfg: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(module=module, tta_cfg=tta_cfg, **kwargs)
        given, rule = dict(tta_cfg or {}), merge_rule_of(self.module)
        nms = dict(given.get("nms") or {})
        if nms.get("type", "nms") != "nms":
            raise ValueError(
                f"tta_cfg.nms.type={nms['type']!r} must be 'nms'; mmdet's DetTTAModel has others, for boxes"
            )
        self.rule = rule._replace(
            iou_threshold=probability("tta_cfg.nms.iou_threshold", nms.get("iou_threshold", rule.iou_threshold)),
            limit=integer("tta_cfg.max_per_img", given.get("max_per_img", rule.limit), 1),
        )

    def test_step(self, data: Mapping[str, Any]) -> list[DetDataSample]:
        """Detect on all views of every image: ``inputs`` and ``data_samples`` are lists over views, then images."""
        views = [
            [DetectorView(self.module, *pair) for pair in zip(*batch, strict=True)]
            for batch in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        return [self._merged(image) for image in zip(*views, strict=True)]

    def _merged(self, views: tuple[DetectorView, ...]) -> DetDataSample:
        """Merge the views of one image into the sample of the first."""
        sample = views[0].data["data_samples"][0]
        found = merge_views(views, sample.metainfo["ori_shape"][:2], self.rule)
        instances = InstanceData(bboxes=found.boxes, scores=found.scores, labels=found.labels)
        if found.masks is not None:
            instances.masks = found.masks
        sample.pred_instances = instances
        return sample
