"""torchvision: any of our backbones with any of our necks as ``backbone=`` of its detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

try:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign
except ImportError as error:
    raise ImportError(
        f"fpn_plugins.adapters.torchvision needs torchvision ({error}): pip install torchvision"
    ) from error
from torch import Tensor, nn

from ..backbones import build_backbone
from ..necks import build_neck

Part = nn.Module | Mapping[str, Any]

RATIOS = (0.5, 1.0, 2.0)
OCTAVE = tuple(2 ** (k / 3) for k in range(3))


class PyramidBackbone(nn.Module):
    """Backbone and neck in one, for torchvision's ``FasterRCNN``, ``MaskRCNN`` and ``RetinaNet``.

    torchvision normalises images itself, with ImageNet's mean and standard deviation unless its ``image_mean`` and
    ``image_std`` say otherwise.

    Args:
        backbone: one of this package's backbones, or a ``{"type": ..., **arguments}`` mapping of one.
        neck: one of its necks, or such a mapping without ``in_channels``, or several of them, one behind the other.

    Attributes:
        feature_specs: channels and stride of each map.
        out_channels: channels of every map, which torchvision's heads read.

    State dict: ``body.*`` and ``fpn.*``, as in torchvision's ``BackboneWithFPN``. Of its checkpoints of detectors with
    a ResNet and an FPN, these parts load as they are into ``TimmBackbone("resnet50")`` and `FPN`.
    torchvision runs the frozen batch norms of its COCO checkpoints with an ``eps`` of 0; set that of the loaded ones to
    the same for equal maps.

    Raises:
        ValueError: a neck that does not fit the backbone, or whose maps differ in channels.
    """

    def __init__(self, backbone: Part, neck: Part | Sequence[Part]) -> None:
        super().__init__()
        self.body = build_backbone(backbone)
        self.fpn = build_neck(neck, self.body.feature_specs)
        self.feature_specs = self.fpn.out_specs(self.body.feature_specs)
        channels = {spec.channels for spec in self.feature_specs}
        if len(channels) > 1:
            raise ValueError(f"the neck's maps have {sorted(channels)} channels; torchvision's heads need one number")
        self.out_channels = channels.pop()

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images ``B 3 H W`` to the pyramid's maps, high to low resolution, called ``"0"``, ``"1"``, ..."""
        return OrderedDict((str(index), feature) for index, feature in enumerate(self.fpn(self.body(x))))

    def rpn_anchors(self, scale: float = 8) -> AnchorGenerator:
        """One size per level, of ``scale`` cells, in three ratios: ``rpn_anchor_generator`` of the R-CNNs."""
        sizes = tuple((int(scale * spec.stride),) for spec in self.feature_specs)
        return AnchorGenerator(sizes, (RATIOS,) * len(sizes))

    def retinanet_anchors(self, scale: float = 4) -> AnchorGenerator:
        """Three sizes per level, from ``scale`` cells on, in three ratios: ``anchor_generator`` of ``RetinaNet``."""
        sizes = tuple(tuple(int(scale * octave * spec.stride) for octave in OCTAVE) for spec in self.feature_specs)
        return AnchorGenerator(sizes, (RATIOS,) * len(sizes))

    def roi_align(self, output_size: int = 7, num_levels: int = 4) -> MultiScaleRoIAlign:
        """Pooling from the finest levels: ``box_roi_pool`` (7) and ``mask_roi_pool`` (14)."""
        names = [str(index) for index in range(min(num_levels, len(self.feature_specs)))]
        return MultiScaleRoIAlign(names, output_size, sampling_ratio=2)
