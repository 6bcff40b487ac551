"""Detect on slices of large images with SAHI: detectors of both toolboxes and exported ones as SAHI's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..checks import integer, number, one_of
from ..extras import needed_for
from ..inference import Detections, ImagePredictor
from ..inference.engines import is_exported, load_engine
from .detectors import load_detector

with needed_for("sliced detections"):
    import cv2
    import numpy as np
    from sahi.annotation import BoundingBox
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

MERGES = ("GREEDYNMM", "NMM", "NMS")
LOW_SCORE = 0.1  # below it, merged boxes grow around uncertain ones, and SAHI suppresses instead


class FPNPluginsDetectionModel(DetectionModel):  # type: ignore[misc]
    """Detector of either toolbox, or an exported one, as a model of SAHI.

        model = FPNPluginsDetectionModel(config_path="fpn_plugins::mmdet/demo_mask_rcnn", model_path="epoch_12.pth")
        result = sahi.predict.get_sliced_prediction("aerial.tif", model, slice_height=640, slice_width=640)

    Category ids are class indices, as in SAHI's own models of the toolboxes; ``category_remapping`` (``{"0": 1}``)
    changes them. Each slice is resized as the config's test pipeline says. SAHI takes masks as polygons, which have
    no holes.

    Args:
        model_path: checkpoint, or an exported file (then no ``config_path``).
        model: `LoadedDetector`, or any `ImagePredictor`, in place of the files.
        config_path: config, as `load_detector` takes it.
        device: device of a detector that is loaded; unlike in SAHI, ``None`` is the CPU.
        image_size: side of the square into which slices are resized, in pixels, or shorter and longer side; by default
            as the config's test pipeline does.
        **kwargs: SAHI's: ``confidence_threshold``, ``category_mapping``, ``category_remapping``, ``load_at_init``.

    Raises:
        ValueError: errors of `load_detector` and `load_engine`.
    """

    def __init__(
        self,
        model_path: str | None = None,
        model: Any | None = None,
        config_path: str | None = None,
        device: str | None = None,
        image_size: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        sides: Any = image_size  # SAHI's own is an integer, which it only stores
        super().__init__(
            model_path=model_path, model=model, config_path=config_path, device=device, image_size=sides, **kwargs
        )

    def set_device(self, device: str | None = None) -> None:
        """Store the device; SAHI's method would hide all GPUs from the process."""
        self.device = device or "cpu"

    def load_model(self) -> None:
        """Load the detector of ``config_path`` and ``model_path``."""
        size: Any = self.image_size
        sides = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])
        if self.model_path is None:
            raise ValueError("model_path=None: give a checkpoint with its config_path, an exported file, or model=...")
        if is_exported(self.model_path):
            self.set_model(load_engine(self.model_path, size=sides, device=str(self.device)))
        elif self.config_path is None:
            raise ValueError(
                f"config_path=None: the checkpoint {self.model_path!r} needs the config it was trained with"
            )
        else:
            self.set_model(load_detector(self.config_path, self.model_path, sides, device=str(self.device)))

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Use a `LoadedDetector` or an `ImagePredictor`, and its names unless ``category_mapping`` is given."""
        self.model = model
        names = getattr(model, "names", None) or getattr(getattr(model, "metadata", None), "names", None) or {}
        if not self.category_mapping:
            self.category_mapping = {str(index): name for index, name in enumerate(names.values())}

    def perform_inference(self, image: np.ndarray) -> None:
        """Detect on an image ``H W 3``, RGB."""
        self._original_predictions = self.model(image)

    @property
    def num_categories(self) -> int:
        """Number of classes."""
        return len(self.category_names)

    @property
    def category_names(self) -> list[str]:
        """Names of the classes."""
        return list((self.category_mapping or {}).values())

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = ((0, 0),), full_shape_list: Any = None
    ) -> None:
        """Convert the detections on one image or slice; one without a single pixel in its mask is left out."""
        shift, shape = _first(shift_amount_list) or [0, 0], _first(full_shape_list)
        found: Detections = self._original_predictions.above(self.confidence_threshold)
        objects = [self._object(found, index, shift, shape) for index in range(len(found.scores))]
        self._object_prediction_list_per_image = [[entry for entry in objects if entry is not None]]

    def _object(self, found: Detections, index: int, shift: list[int], shape: list[int] | None) -> Any:
        label, box, segmentation = int(found.labels[index]), found.boxes[index].tolist(), None
        if found.masks is not None:
            segmentation = polygons_of(found.masks[index].numpy())
            shape = shape or list(found.masks.shape[1:])
        if segmentation == [] or box[0] >= box[2] or box[1] >= box[3]:
            return None
        return BoxedPrediction(
            bbox=box,
            category_id=label,
            category_name=(self.category_mapping or {}).get(str(label), str(label)),
            segmentation=segmentation,
            score=float(found.scores[index]),
            shift_amount=shift,
            full_shape=shape,
        )


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Return the polygons of a mask ``H W``; none if it is empty.

    SAHI drops points and lines of one pixel, and so the smallest objects; they become two pixels wide.
    """
    found: list[list[float]] = get_coco_segmentation_from_bool_mask(mask)
    for anchor in ((1, 1), (0, 0)):  # to the right and downwards, or at the border the other way
        if found or not mask.any():
            break
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((2, 2), np.uint8), anchor=anchor)
        found = get_coco_segmentation_from_bool_mask(wide.astype(bool))
    return found


class BoxedPrediction(ObjectPrediction):  # type: ignore[misc]
    """SAHI's object that keeps its box beside a mask; SAHI's takes that of the mask's polygon."""

    def __init__(self, bbox: list[float], shift_amount: list[int], **kwargs: Any) -> None:
        super().__init__(bbox=bbox, shift_amount=shift_amount, **kwargs)
        self.bbox = BoundingBox([max(side, 0) for side in bbox], (shift_amount[0], shift_amount[1]))

    def get_shifted_object_prediction(self) -> ObjectPrediction:
        """Move the object from its slice into the image."""
        moved = super().get_shifted_object_prediction()
        return BoxedPrediction(
            bbox=self.bbox.get_shifted_box().to_xyxy(),
            shift_amount=[0, 0],
            category_id=moved.category.id,
            category_name=moved.category.name,
            segmentation=moved.mask.segmentation if moved.mask else None,
            score=moved.score.value,
            full_shape=moved.mask.full_shape if moved.mask else None,
        )


def _first(entries: Any) -> list[int] | None:
    """Return the first of several pairs, or the pair itself, both of which SAHI hands over."""
    if not entries:
        return None
    return list(entries[0]) if isinstance(entries[0], (list, tuple)) else list(entries)


class SlicedPredictor(ImagePredictor):
    """Predictor that detects on overlapping slices of an image, and on the whole image, and merges by SAHI.

    Args:
        predict: predictor of either toolbox, or an exported detector. It resizes slices by its own rule.
        size: side of the slices, in pixels of the original image.
        overlap: share of a slice's side that the next one covers too, from 0 to below 1.
        merge: ``"GREEDYNMM"`` or ``"NMM"`` merge boxes (and masks) of which one covers half of the other, ``"NMS"``
            keeps the one with the highest score. By default as SAHI does: ``"GREEDYNMM"``, and for a ``score`` below
            0.1, where merged boxes would grow around uncertain ones, ``"NMS"`` by IoU.
        score: lowest score of a detection before merging.

    Raises:
        ValueError: a value out of range, or a detector of other images than those of three channels.
    """

    def __init__(
        self,
        predict: ImagePredictor,
        size: int = 512,
        overlap: float = 0.2,
        merge: str | None = None,
        score: float = 0.0,
    ) -> None:
        self.predict, self.model, self.rule, self.reader = predict, predict.model, predict.rule, predict.reader
        self.toolbox = predict.toolbox
        if self.reader is not None and self.reader.in_chans != 3:
            raise ValueError(
                f"SAHI slices images of three channels, the detector takes {self.reader.in_chans}; use --tta"
            )
        self.size, self.overlap = integer("size", size, 1), number("overlap", overlap, 0, 0.99)
        self.score = number("score", score, 0, 1)
        automatic = "NMS" if score < LOW_SCORE else "GREEDYNMM"
        self.merge = automatic if merge is None else one_of("merge", merge, MERGES)
        self._sahi = FPNPluginsDetectionModel(model=predict, confidence_threshold=self.score)

    @property
    def finds_objects(self) -> bool:
        """Whether calling the predictor gives objects."""
        return self.predict.finds_objects

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        result = get_sliced_prediction(
            image,
            self._sahi,
            slice_height=self.size,
            slice_width=self.size,
            overlap_height_ratio=self.overlap,
            overlap_width_ratio=self.overlap,
            postprocess_type=self.merge,
            postprocess_match_metric="IOU" if self.merge == "NMS" else "IOS",
            force_postprocess_type=True,
            verbose=0,
        )
        return detections_of(result.object_prediction_list, image.shape[:2])


def detections_of(objects: Sequence[Any], size: tuple[int, int]) -> Detections:
    """Convert SAHI's ``ObjectPrediction`` to detections by falling score on an image of a size (height, width)."""
    listed = sorted(objects, key=lambda entry: -float(entry.score.value))
    boxes = torch.tensor([_box(entry) for entry in listed], dtype=torch.float32).reshape(-1, 4)
    boxes = boxes.minimum(torch.tensor([size[1], size[0]] * 2))
    scores = torch.tensor([float(entry.score.value) for entry in listed], dtype=torch.float32)
    labels = torch.tensor([entry.category.id for entry in listed], dtype=torch.int64)
    masks = None
    if any(entry.mask is not None for entry in listed):
        masks = torch.stack([torch.as_tensor(entry.mask.bool_mask).bool() for entry in listed])
    return Detections(boxes, scores, labels, masks)


def _box(entry: Any) -> list[float]:
    """Return an object's corners; SAHI's merged polygons run through the centers of the outer pixels."""
    left, top, right, bottom = map(float, entry.bbox.to_xyxy())
    more = 0 if entry.mask is None or isinstance(entry, BoxedPrediction) else 1
    return [left, top, right + more, bottom + more]
