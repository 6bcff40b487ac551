"""A whole detector as one traceable module, from pixels to objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .pixels import PixelInput
from .tracing import sizes_stay_open


@dataclass(frozen=True)
class ExportSettings:
    """Settings of a detector that whoever runs an exported file needs besides the graph.

    Attributes:
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        kind: ``"retinanet"``, ``"faster_rcnn"``, ``"mask_rcnn"``, ``"cascade_rcnn"``, ``"cascade_mask_rcnn"`` or
            ``"panoptic_fpn"``.
        num_classes: number of thing classes.
        score_threshold: lowest score of an object.
        max_detections: highest number of objects per image.
        masks: ``None`` if the detector has no masks, ``"probabilities"`` of cells of each box, or ``"pasted"``.
        mask_threshold: lowest probability of a pixel of an object.
        panoptic: settings for merging objects and semantic logits; ``None`` for other kinds.
    """

    toolbox: str
    kind: str
    num_classes: int
    score_threshold: float
    max_detections: int
    masks: str | None = None
    mask_threshold: float = 0.5
    panoptic: dict[str, Any] | None = None


class ExportableDetector(nn.Module):
    """Detector of either toolbox as a function of a batch of images, which ``torch.export`` and ONNX can record.

    The output is a dict. Objects of all images stand one after the other, image by image, by falling score:

    - ``boxes``: corners ``N 4`` in pixels of the images given
    - ``scores``: ``N``
    - ``labels``: class indices ``N``, int64
    - ``image_indices``: index ``N`` of each object's image in the batch, int64

    Args:
        pixels: preparation of images.
        pyramid: maps prepared images to a sequence of maps.
        objects: maps the pyramid and the size of the images to `Found`.
        settings: for those who run the exported file.
    """

    def __init__(self, pixels: PixelInput, pyramid: nn.Module, objects: nn.Module, settings: ExportSettings) -> None:
        super().__init__()
        self.pixels, self.pyramid, self.objects = pixels, pyramid, objects
        self.settings = settings

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs in their order."""
        return ("boxes", "scores", "labels", "image_indices")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Detect objects on images ``B 3 H W``, RGB, 0..255, float32 or uint8, of any height and width."""
        with sizes_stay_open():
            maps = self.pyramid(self.pixels(images))
        found = self.objects(maps, images.shape[-2:])
        return dict(zip(self.output_names, found, strict=True))
