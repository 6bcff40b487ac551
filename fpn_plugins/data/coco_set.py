"""Describe an annotation file with its images, and what will read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checks import one_of
from .coco_folder import category_names
from .pixels import PixelReader

USES = ("train", "val", "both")


@dataclass(frozen=True)
class CocoSet:
    """Annotation file with its images, and what will read it.

    Attributes:
        ann_file: COCO annotation file.
        image_dir: folder that the ``file_name`` of each image is relative to; ``None`` skips the images.
        classes: class names of the model in order; ``None`` skips the comparison.
        subset: whether ``classes`` may be some of the file's categories.
        trained: whether it is trained on.
        evaluated: kinds of AP that are computed on it, of ``"bbox"`` and ``"segm"``.
        masks: whether masks are read in training.
        learns_masks: whether the model learns masks; ``None`` if that is unknown.
        polygons: whether masks have to be polygons.
        min_side: images with a shorter side, in pixels, are not trained on.
        annotated: whether it has to have annotations; COCO's files for test images have none.
        toolbox: the only toolbox that will read it; ``None`` holds it to the rules of both.
        reader: reader of its images; ``None`` for the toolboxes' own.
    """

    ann_file: Path
    image_dir: Path | None = None
    classes: tuple[str, ...] | None = None
    subset: bool = False
    trained: bool = True
    evaluated: frozenset[str] = frozenset({"bbox"})
    masks: bool = False
    learns_masks: bool | None = None
    polygons: bool = False
    min_side: int = 0
    annotated: bool = True
    toolbox: str | None = None
    reader: PixelReader | None = None

    def joined(self, other: CocoSet) -> CocoSet:
        """Return one set for the uses of both, which have the same files."""
        return replace(
            self,
            subset=self.subset and other.subset,
            trained=self.trained or other.trained,
            evaluated=self.evaluated | other.evaluated,
            masks=self.masks or other.masks,
            learns_masks=self.learns_masks or other.learns_masks,
            polygons=self.polygons or other.polygons,
            min_side=max(self.min_side, other.min_side),
            annotated=self.annotated or other.annotated,
        )

    @property
    def needs_masks(self) -> bool:
        """Whether each annotation has to have a mask; Detectron2's loader also takes images without any."""
        optional = self.toolbox == "detectron2" and self.learns_masks is False
        return "segm" in self.evaluated or (self.masks and not optional)

    def label_names(self, content: dict[str, Any]) -> tuple[str, ...]:
        """Return the name of each label as the toolbox numbers them in this file."""
        if self.toolbox != "mmdet":
            return category_names(content)
        names = [category["name"] for category in content["categories"]]
        return tuple(name for name in names if self.classes is None or name in self.classes)


def coco_set(
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str] | None,
    classes: Sequence[str] | None = None,
    use: str = "both",
    masks: bool = False,
    reader: PixelReader | None = None,
) -> CocoSet:
    """Describe an annotation file for both toolboxes; arguments are those of `check_coco`."""
    one_of("use", use, USES)
    return CocoSet(
        Path(ann_file),
        None if image_dir is None else Path(image_dir),
        classes if classes is None or isinstance(classes, str) else tuple(classes),  # type: ignore[arg-type]
        trained=use != "val",
        evaluated=frozenset() if use == "train" else frozenset({"bbox", "segm"} if masks else {"bbox"}),
        masks=masks,
        reader=reader,
    )
