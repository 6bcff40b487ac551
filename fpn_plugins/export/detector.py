"""A whole detector as one traceable module, from pixels to objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .boxes import Size
from .dense import Found
from .pixels import PixelInput
from .stages import paste_masks
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
        iou_threshold: IoU above which the lower-scored of two boxes is dropped, for those who merge views.
        panoptic: settings for merging objects and semantic logits, by the toolbox's rule: number of ``things`` and of
            channels for ``stuff``, ``overlap_threshold``, ``stuff_area`` and ``score_threshold``; ``None`` for other
            kinds. Channel 0 of the logits is "thing" in Detectron2, the last one in mmdet.
    """

    toolbox: str
    kind: str
    num_classes: int
    score_threshold: float
    max_detections: int
    masks: str | None = None
    mask_threshold: float = 0.5
    iou_threshold: float = 0.5
    panoptic: dict[str, Any] | None = None


def region_kind(cascade: bool, masks: bool) -> str:
    """Return `ExportSettings.kind` of a detector of two or more stages."""
    if cascade:
        return "cascade_mask_rcnn" if masks else "cascade_rcnn"
    return "mask_rcnn" if masks else "faster_rcnn"


class ExportableDetector(nn.Module):
    """Detector of either toolbox as a function of a batch of images, which ``torch.export`` and ONNX can record.

    The output is a dict. Objects of all images stand one after the other, image by image, by falling score:

    - ``boxes``: corners ``N 4`` in pixels of the images given
    - ``scores``: ``N``
    - ``labels``: class indices ``N``, int64
    - ``image_indices``: index ``N`` of each object's image in the batch, int64
    - ``masks`` if the detector has masks: probabilities ``N h w`` of the cells of each box (28 x 28 in most
      detectors), or booleans ``N H W`` pasted into the image, see ``settings.masks``
    - ``semantic_logits`` of Panoptic FPN: ``B C H W`` at the images' size; channels are the toolbox's

    Compute it without gradients (``torch.no_grad``). One recording serves all sizes and numbers of images; a program of
    ``torch.export`` alone refuses images on which a map would be a single cell wide or high.

    Args:
        pixels: preparation of images.
        pyramid: maps prepared images to a sequence of maps.
        objects: maps the pyramid and the size of the images to `Found`.
        settings: for those who run the exported file.
        masks: maps the pyramid and `Found` to probabilities ``N h w``.
        semantic: maps the pyramid and the padded images' size to logits ``B C h w`` of at least the images' size.
    """

    def __init__(
        self,
        pixels: PixelInput,
        pyramid: nn.Module,
        objects: nn.Module,
        settings: ExportSettings,
        masks: nn.Module | None = None,
        semantic: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pixels, self.pyramid, self.objects = pixels, pyramid, objects
        self.settings, self.masks, self.semantic = settings, masks, semantic

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs in their order."""
        masks = () if self.masks is None else ("masks",)
        semantic = () if self.semantic is None else ("semantic_logits",)
        return ("boxes", "scores", "labels", "image_indices", *masks, *semantic)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Detect objects on images ``B 3 H W``, RGB, 0..255, float32 or uint8, of any height and width."""
        size = (images.shape[-2], images.shape[-1])
        pixels = self.pixels(images)
        with sizes_stay_open():
            maps = self.pyramid(pixels)
        found = self.objects(maps, size)
        outputs = list(found)
        if self.masks is not None:
            outputs.append(self._masks(maps, found, size))
        if self.semantic is not None:
            outputs.append(self.semantic(maps, pixels.shape[-2:])[..., : size[0], : size[1]])
        return dict(zip(self.output_names, outputs, strict=True))

    def _masks(self, maps: Sequence[Tensor], found: Found, size: Size) -> Tensor:
        masks = self.masks(maps, found)  # type: ignore[misc]
        if self.settings.masks != "pasted":
            return masks
        return paste_masks(masks, found.boxes, size, self.settings.mask_threshold)
