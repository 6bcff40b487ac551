"""Use any backbone with any neck as ``backbone=`` of torchvision's detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

try:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign
except ImportError as error:
    raise ImportError(
        f"fpn_plugins.adapters.torchvision needs torchvision ({error}): pip install torchvision"
    ) from error
import torch
from torch import Tensor

from ..ops.scripting import Form
from ..pyramid import Part, Pyramid

RATIOS = (0.5, 1.0, 2.0)
OCTAVE = tuple(2 ** (k / 3) for k in range(3))


class PyramidBackbone(Pyramid):
    """`fpn_plugins.Pyramid` for torchvision's ``FasterRCNN``, ``MaskRCNN`` and ``RetinaNet``.

    torchvision normalizes images itself, with ImageNet's mean and standard deviation unless its ``image_mean`` and
    ``image_std`` say otherwise.

    Arguments, attributes and errors are those of `Pyramid`. ``out_channels``, which torchvision's heads read, is the
    number of channels of every map.

    State dict: ``body.*`` and ``fpn.*``, as in torchvision's ``BackboneWithFPN``. Its checkpoints of detectors with a
    ResNet and an FPN load unchanged into ``TimmBackbone("resnet50")`` and `FPN`. torchvision runs the frozen batch
    norms of its COCO checkpoints with an ``eps`` of 0; for equal maps, set ``eps`` to 0 after loading them.

    ``torch.jit.script`` compiles it inside torchvision's detectors, with a backbone and neck that it compiles.

    Raises:
        ValueError: also for a neck whose maps differ in channels.
    """

    script_form = Form
    part_names = ("body", "fpn")

    def __init__(self, backbone: Part, neck: Part | Sequence[Part] | None, **options: Any) -> None:
        super().__init__(backbone, neck, **options)
        channels = {spec.channels for spec in self.feature_specs}
        if len(channels) > 1:
            raise ValueError(f"the neck's maps have {sorted(channels)} channels; torchvision's heads need one number")
        self.out_channels = channels.pop()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``B 3 H W`` to an ``OrderedDict`` of maps, high to low resolution, named ``"0"``, ``"1"``, ..."""
        named: dict[str, Tensor] = OrderedDict()
        for index, feature in enumerate(self.maps(x)):
            named[str(index)] = feature
        return named

    def _compute(self, x: Tensor) -> list[Tensor]:
        maps = self.body(x)  # type: ignore[operator]
        if self.fpn is not None:
            maps = self.fpn(maps)  # type: ignore[operator]
        if not torch.jit.is_scripting():
            self._check(maps)
        return [maps[position] for position in self.out_positions]

    def rpn_anchors(self, scale: float = 8) -> AnchorGenerator:
        """Return one size per level, ``scale`` cells, in three ratios: the R-CNNs' ``rpn_anchor_generator``."""
        sizes = tuple((int(scale * spec.stride),) for spec in self.feature_specs)
        return AnchorGenerator(sizes, (RATIOS,) * len(sizes))

    def retinanet_anchors(self, scale: float = 4) -> AnchorGenerator:
        """Return three sizes per level, ``scale`` cells and up, in three ratios: RetinaNet's ``anchor_generator``."""
        sizes = tuple(tuple(int(scale * octave * spec.stride) for octave in OCTAVE) for spec in self.feature_specs)
        return AnchorGenerator(sizes, (RATIOS,) * len(sizes))

    def roi_align(self, output_size: int = 7, num_levels: int = 4) -> MultiScaleRoIAlign:
        """Pool from the finest levels: ``box_roi_pool`` (7) or ``mask_roi_pool`` (14)."""
        names = [str(index) for index in range(min(num_levels, len(self.feature_specs)))]
        return MultiScaleRoIAlign(names, output_size, sampling_ratio=2)
