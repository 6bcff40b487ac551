"""Run an exported detector on images, as the toolbox runs the detector itself."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from ...extras import needed_for
from ..detections import Detections
from ..panoptic import PanopticSegments, merge_segments
from ..pasting import paste_masks
from ..predictor import ImagePredictor
from ..resizing import ResizeRule
from ..views import MergeRule, View
from .metadata import InputFormat, Metadata
from .sessions import Outputs, Session, open_session

if TYPE_CHECKING:
    import numpy as np


class EnginePredictor(ImagePredictor):
    """Exported detector as a function of an image: resizes, runs the engine, scales boxes back and pastes masks.

    Args:
        session: graph of the detector.
        rule: rule by which images are resized, in place of the file's; of a graph that resizes, it has no effect.

    Raises:
        ValueError: a ``rule`` for a graph that resizes.
    """

    def __init__(self, session: Session, rule: ResizeRule | None = None) -> None:
        given = session.metadata.input
        if rule is not None and given.inside:
            raise ValueError("the exported graph resizes images itself; export it without resizing to choose a size")
        self.model: Any = session
        self.session, self.rule = session, rule or given.resize
        self.toolbox = session.metadata.toolbox or None

    @property
    def metadata(self) -> Metadata:
        """Description of the detector."""
        return self.session.metadata

    @property
    def is_panoptic(self) -> bool:
        """Whether `panoptic` segments things and stuff."""
        return self.metadata.panoptic is not None

    @property
    def merge_rule(self) -> MergeRule:
        """Rule by which detections on several views are merged."""
        stored = self.metadata
        return MergeRule(stored.iou_threshold, stored.max_detections, stored.mask_threshold)

    def read(self, path: str | os.PathLike[str], toolbox: str | None = None) -> np.ndarray:
        """Read an image file as the detector's toolbox does, unless ``toolbox`` names another; see `read_image`.

        Raises:
            ValueError: a detector of channels of its own, if `reader` is not set.
        """
        stored = self.metadata.input.reader
        if self.reader is None and stored is not None:
            given = ", ".join(f"{name}={value!r}" for name, value in asdict(stored).items())
            raise ValueError(
                "the exported detector reads channels of its own; set its reader to "
                f"fpn_plugins.data.PixelReader({given})"
            )
        return super().read(path, toolbox)

    def resized(self, image: np.ndarray) -> np.ndarray:
        """Resize an image ``H W C`` for the detector; ``ValueError`` for other channels than its own."""
        _check_image(image, self.metadata.input)
        return self.rule.resize(image)

    def view(self, image: np.ndarray, rule: ResizeRule, flip: str | None = None) -> View:
        """Return a `View` of an image; ``ValueError`` for another size of a graph that resizes."""
        if self.metadata.input.inside and rule != self.rule:
            raise ValueError("the exported graph resizes images itself; leave out the sizes of the views")
        return super().view(image, rule, flip)

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        outputs, scale = self._run(image)
        return self._detections(outputs, scale, image.shape[:2])

    def panoptic(self, image: np.ndarray) -> PanopticSegments:
        """Segment things and stuff on an image ``H W 3``, RGB, 0..255.

        Raises:
            ValueError: the detector has no semantic head.
        """
        rule = self.metadata.panoptic
        if rule is None:
            raise ValueError(
                f"{self.metadata.detector or 'the detector'} has no semantic head; call it for its objects"
            )
        outputs, scale = self._run(image)
        logits = torch.from_numpy(outputs["semantic_logits"]).float()
        logits = self._without_padding(logits, image)
        logits = functional.interpolate(logits, size=tuple(image.shape[:2]), mode="bilinear", align_corners=False)[0]
        return merge_segments(self._detections(outputs, scale, image.shape[:2]), logits, rule)

    def _run(self, image: np.ndarray) -> tuple[Outputs, tuple[float, float]]:
        """Run the graph; return its outputs, and the factors of width and height by which the image was resized."""
        _check_image(image, self.metadata.input)
        height, width = image.shape[:2] if self.metadata.input.inside else self.rule.size_of(*image.shape[:2])
        return self.session(self.batch(image)), (width / image.shape[1], height / image.shape[0])

    def batch(self, image: np.ndarray) -> np.ndarray:
        """Return an image ``H W 3``, RGB, 0..255, as the batch ``1 3 H W`` that the graph takes."""
        return self._pixels(image if self.metadata.input.inside else self.resized(image))

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        """Return the batch ``1 3 H W`` that the graph takes."""
        with needed_for("exported detectors"):
            import numpy as np

        given = self.metadata.input
        if given.normalized:
            ordered = image[..., ::-1] if given.order == "BGR" else image
            image = (ordered.astype(np.float32) - np.array(given.mean, np.float32)) / np.array(given.std, np.float32)
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=given.dtype)

    def _without_padding(self, maps: Tensor, image: np.ndarray) -> Tensor:
        """Cut the rule's padding off maps that have the size of the graph's input."""
        if self.metadata.input.inside or self.rule.padding is None or self.metadata.toolbox == "mmdet":
            return maps  # mmdet takes padding by the pipeline for a part of the image
        height, width = self.rule.size_of(*image.shape[:2])
        return maps[..., :height, :width]

    def _detections(self, outputs: Outputs, scale: tuple[float, float], size: tuple[int, int]) -> Detections:
        """Turn the outputs for one image into detections on the original image."""
        boxes, scores, labels = (torch.from_numpy(outputs[name]) for name in ("boxes", "scores", "labels"))
        boxes = boxes.float() / torch.tensor([*scale, *scale])
        kept = torch.ones(len(boxes), dtype=torch.bool)
        if self.metadata.toolbox == "detectron2":
            boxes = _clipped(boxes, size)
            kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        masks = self._masks(outputs, boxes, size) if self.metadata.masks else None
        return Detections(boxes[kept], scores.float()[kept], labels[kept], None if masks is None else masks[kept])

    def _masks(self, outputs: Outputs, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Return masks on the original image; pasted ones are resized if the graph's image has another size."""
        masks = torch.from_numpy(outputs["masks"])
        if self.metadata.masks == "probabilities":
            return paste_masks(masks.float(), boxes, size, self.metadata.mask_threshold)
        if tuple(masks.shape[-2:]) != tuple(size) and len(masks):
            masks = functional.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[
                :, 0
            ]
        return masks.float() >= self.metadata.mask_threshold


def _check_image(image: np.ndarray, given: InputFormat) -> None:
    """Raise ``ValueError`` for an array of other channels, or whose values a graph of bytes cannot hold."""
    if image.ndim != 3 or image.shape[2] != len(given.mean) or 0 in image.shape:
        expected = f"H W {len(given.mean)}, as the predictor's read returns it" if given.reader else "H W 3, RGB"
        remedy = "" if given.reader else "; read_image converts files"
        raise ValueError(f"image of shape {image.shape}: expected {expected}{remedy}")
    if image.dtype.name not in ("uint8", "float32", "float64"):
        raise ValueError(f"image of type {image.dtype}: expected uint8, or floats from 0 to 255")
    if given.dtype == "uint8" and image.dtype.name != "uint8":
        raise ValueError(f"image of type {image.dtype}: the exported graph takes uint8, and conversion would round")


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))


def load_engine(
    path: str | os.PathLike[str],
    engine: str | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> EnginePredictor:
    """Open an exported detector as a function of an image.

        detector = load_engine("detector.onnx")
        detections = detector(read_image("street.jpg"))

    Args:
        path: see `open_session`, also for the other arguments and errors.
        engine: ``"onnxruntime"``, ``"openvino"`` or ``"torch"``.
        size: shorter side and limit of the longer side of the resized image, in pixels; by default as the detector was
            exported.
        threads: see `open_session`.
        precision: ``"float32"`` or ``"bfloat16"``.
        device: device to run on.

    Raises:
        ValueError: see `open_session`; or a ``size`` for a graph that resizes images itself.
    """
    session = open_session(path, engine, threads, precision, device)
    rule = None if size is None else session.metadata.input.resize.resized_to(*size)
    return EnginePredictor(session, rule)
