"""Represent detections and annotated images of either toolbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..extras import needed_for

if TYPE_CHECKING:
    import numpy as np


class Detections(NamedTuple):
    """Detections on one image, in pixels of the original image.

    Attributes:
        boxes: corners ``N 4`` (left, top, right, bottom).
        scores: ``N``, from 0 to 1.
        labels: ``N``, class indices.
        masks: ``N H W`` booleans; ``None`` if the detector predicts no masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def cpu(self) -> Detections:
        """Move every tensor to the CPU."""
        return Detections(*(None if part is None else part.cpu() for part in self))  # type: ignore[arg-type]

    def above(self, min_score: float) -> Detections:
        """Select the detections with a score of at least ``min_score``."""
        kept = self.scores.double() >= min_score
        masks = None if self.masks is None else self.masks[kept]
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], masks)

    def to_coco(self, image_id: int | str, category_ids: list[int]) -> list[dict[str, Any]]:
        """Convert to COCO's results format; ``category_ids`` lists the category id of each class index."""
        with needed_for("results in COCO's format"):
            from pycocotools import mask as mask_utils

        corners = self.boxes.double()
        sides = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        results = []
        for index, (box, score, label) in enumerate(
            zip(sides, self.scores.tolist(), self.labels.tolist(), strict=True)
        ):
            entry = {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            if self.masks is not None:
                rle = mask_utils.encode(self.masks[index].cpu().numpy().astype("uint8", order="F"))
                entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(entry)
        return results

    def to_supervision(self, names: Sequence[str] | Mapping[int, str]) -> Any:
        """Convert to ``supervision.Detections``, for its annotators, trackers, zones and counters.

        Args:
            names: class names in the order of the class indices; of a dict (category id -> name, as in
                `LoadedDetector.names`), the values.

        Returns:
            ``xyxy``, ``confidence``, ``class_id`` (class index), ``mask``, and the names in ``data["class_name"]``.

        Raises:
            ImportError: supervision is not installed.
            ValueError: a class index has no name.
        """
        with needed_for("objects of supervision"):
            import numpy as np
            import supervision

        listed = list(names.values() if isinstance(names, Mapping) else names)
        labels = self.labels.cpu().numpy().astype(int)
        if labels.size and labels.max() >= len(listed):
            raise ValueError(
                f"names has {len(listed)} classes, the detections have class {labels.max()}; give all names"
            )
        return supervision.Detections(
            xyxy=self.boxes.detach().cpu().numpy().astype(np.float32).reshape(-1, 4),
            confidence=self.scores.detach().cpu().numpy().astype(np.float32),
            class_id=labels,
            mask=None if self.masks is None else self.masks.cpu().numpy().astype(bool),
            data={"class_name": np.array([listed[label] for label in labels], dtype=str)},
        )


class AnnotatedImage(NamedTuple):
    """An image and its objects, for training a detector of either toolbox.

    Attributes:
        pixels: ``3 H W``, BGR, 0..255, the toolboxes' default order.
        boxes: corners ``N 4`` in pixels.
        labels: ``N``, class indices.
        masks: ``N H W`` booleans.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    masks: np.ndarray
