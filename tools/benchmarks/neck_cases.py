"""Build the necks of the benchmarks: ours in their usual configuration, and other packages' of the same kind."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fpn_plugins import NECKS, FeatureSpec
from fpn_plugins.necks.ct_resnet_neck import RESNET18
from fpn_plugins.necks.ssd_neck import SSD512
from fpn_plugins.necks.yolov3_neck import DARKNET

RESNET50 = tuple(FeatureSpec(256 << k, 4 << k) for k in range(4))  # C2..C5
HRNET32 = tuple(FeatureSpec(32 << k, 4 << k) for k in range(4))
YOLOX_S = tuple(FeatureSpec(128 << k, 8 << k) for k in range(3))
PYRAMID = tuple(FeatureSpec(256, 4 << k) for k in range(5))  # P2..P6
PACKAGES = ("mmdet", "detectron2", "torchvision", "effdet")
Build = Callable[[Sequence[FeatureSpec], tuple[int, int]], nn.Module]


class Adapted(nn.Module):
    """Wrapper of a neck that takes its maps or lists its outputs in another form.

    Args:
        neck: another package's neck.
        given: makes the neck's input of the list of maps.
        found: makes the list of outputs, high to low resolution, of the neck's.
    """

    def __init__(
        self, neck: nn.Module, given: Callable[[Sequence[Tensor]], Any] = tuple, found: Callable[[Any], Any] = list
    ) -> None:
        super().__init__()
        self.neck, self.given, self.found = neck, given, found

    def forward(self, maps: Sequence[Tensor]) -> Any:
        return self.found(self.neck(self.given(maps)))


def named(neck: nn.Module) -> nn.Module:
    """Wrap a neck that takes and returns its maps by name."""
    return Adapted(
        neck, lambda maps: OrderedDict((str(k), x) for k, x in enumerate(maps)), lambda maps: [*maps.values()]
    )


def mmdet(kind: str, *arguments: Any, **more: Any) -> Build:
    """Make a function that builds mmdet's class of that name."""

    def build(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
        from mmdet.models import necks

        return getattr(necks, kind)([spec.channels for spec in specs], *arguments, **more)

    return build


def mmdet_on_the_last(kind: str, *arguments: Any, **more: Any) -> Build:
    """Make a function that builds mmdet's class of that name, which reads the last map alone."""

    def build(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
        from mmdet.models import necks

        return getattr(necks, kind)(specs[-1].channels, *arguments, **more)

    return build


def mmdet_nas_fcos(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's NASFCOS_FPN, which counts C2 although it does not read it."""
    from mmdet.models.necks import NASFCOS_FPN

    widths = [spec.channels for spec in specs]
    neck = NASFCOS_FPN([widths[0] // 2, *widths], 256, 5, start_level=1, norm_cfg={"type": "BN"})
    return Adapted(neck, lambda maps: (maps[0], *maps))


def mmdet_ssd(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's SSDNeck of SSD512."""
    from mmdet.models.necks import SSDNeck

    given = [spec.channels for spec in specs]
    widths = [*given, 512, 256, 256, 256, 256]
    return SSDNeck(given, widths, [2] * 5, [1] * 5, l2_norm_scale=20, last_kernel_size=4)


def mmdet_ssh(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's SSH."""
    from mmdet.models.necks import SSH

    return SSH(len(specs), [spec.channels for spec in specs], [256] * len(specs))


def mmdet_yolov3(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's YOLOV3Neck, which lists its maps from the coarsest."""
    from mmdet.models.necks import YOLOV3Neck

    neck = YOLOV3Neck(len(specs), [spec.channels for spec in reversed(specs)], [512, 256, 128])
    return Adapted(neck, found=lambda maps: [*reversed(maps)])


def mmdet_fpg(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's FPG as its configs have it."""
    from mmdet.models.necks import FPG

    order = {"norm_cfg": {"type": "BN"}, "order": ("act", "conv", "norm"), "inplace": False}
    up = {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1, **order}
    same, down = {"type": "conv", "kernel_size": 1, **order}, {"type": "interpolation_conv", "kernel_size": 3, **order}
    output = {**order, "type": "last_conv", "kernel_size": 3, "norm_cfg": None}
    skipped = [tuple(range(4 - level)) for level in range(5)]
    channels, paths = [spec.channels for spec in specs], 9 * ["bu"]
    transitions = {"same_up_trans": up, "across_lateral_trans": same, "across_down_trans": down}
    more = {"across_skip_trans": same, "output_trans": output, "skip_inds": skipped}
    return FPG(channels, 256, 5, 9, paths, inter_channels=256, **transitions, **more)


def mmdet_dyhead(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's DyHead."""
    from mmdet.models.necks import DyHead

    return DyHead(specs[0].channels, specs[0].channels)


def mmdet_bfp(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build mmdet's BFP."""
    from mmdet.models.necks import BFP

    return BFP(specs[0].channels, len(specs), refine_level=2, refine_type="non_local")


def torchvision_fpn(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build torchvision's FPN."""
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

    return named(FeaturePyramidNetwork([spec.channels for spec in specs], 256, LastLevelMaxPool()))


def detectron2_fpn(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build Detectron2's FPN on given maps."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone import FPN, Backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    class Given(Backbone):
        """Stand-in for a backbone that passes the maps on."""

        def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
            return maps

        def output_shape(self) -> dict[str, ShapeSpec]:
            return {str(k): ShapeSpec(channels=spec.channels, stride=spec.stride) for k, spec in enumerate(specs)}

    return named(FPN(Given(), [str(k) for k in range(len(specs))], 256, top_block=LastLevelMaxPool()))


def effdet_bifpn(specs: Sequence[FeatureSpec], size: tuple[int, int]) -> nn.Module:
    """Build effdet's BiFPN of EfficientDet-D0."""
    from effdet.config import default_detection_model_configs
    from effdet.config.fpn_config import bifpn_config
    from effdet.efficientdet import BiFpn

    config = default_detection_model_configs()
    config.image_size, config.fpn_config = list(size), bifpn_config(3, 7, "fastattn")
    config.fpn_channels, config.fpn_cell_repeats = 64, 3
    return BiFpn(config, [{"num_chs": spec.channels} for spec in specs])


@dataclass(frozen=True)
class NeckCase:
    """A kind of neck: specs of its inputs, builders of other packages' necks, and arguments of ours."""

    specs: tuple[FeatureSpec, ...]
    peers: Mapping[str, Build]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def installed(self) -> list[str]:
        """Names of the installed packages to compare with."""
        return [name for name in self.peers if importlib.util.find_spec(name)]


P6 = {"extra_levels": {"num_levels": 1}}
C6 = {"num_levels": 1, "op": "conv", "source": "input", "relu": False, "bare": False}
GN = {"type": "GN", "num_groups": 32}
ON_P3_TO_P7 = tuple(FeatureSpec(256, 8 << k) for k in range(5))
# beside other packages' necks
COMPARED = {
    "FPN": NeckCase(
        RESNET50,
        {"mmdet": mmdet("FPN", 256, 5), "detectron2": detectron2_fpn, "torchvision": torchvision_fpn},
        P6,
    ),
    "PAFPN": NeckCase(RESNET50, {"mmdet": mmdet("PAFPN", 256, 5)}, P6),
    "BiFPN": NeckCase(RESNET50[1:], {"effdet": effdet_bifpn}, {"bias_before_norm": True}),  # effdet's default
    "NASFPN": NeckCase(
        RESNET50[1:], {"mmdet": mmdet("NASFPN", 256, 5, stack_times=7, norm_cfg={"type": "BN"})}, {"norm": "BN"}
    ),
    "CSPPAFPN": NeckCase(YOLOX_S, {"mmdet": mmdet("YOLOXPAFPN", 128, 1)}, {"out_channels": 128, "num_blocks": 1}),
    "CSPNeXtPAFPN": NeckCase(YOLOX_S, {"mmdet": mmdet("CSPNeXtPAFPN", 128, 1)}, {"out_channels": 128, "num_blocks": 1}),
    "BFP": NeckCase(PYRAMID, {"mmdet": mmdet_bfp}),
    "FPG": NeckCase(RESNET50, {"mmdet": mmdet_fpg}),
    "DyHead": NeckCase(ON_P3_TO_P7, {"mmdet": mmdet_dyhead}),
    "ChannelMapper": NeckCase(
        RESNET50[1:],
        {"mmdet": mmdet("ChannelMapper", 256, 1, norm_cfg=GN, act_cfg=None, num_outs=4)},
        {"extra_levels": C6},
    ),
    "CTResNetNeck": NeckCase(RESNET18, {"mmdet": mmdet_on_the_last("CTResNetNeck", (256, 128, 64), (4, 4, 4))}),
    "DilatedEncoder": NeckCase(RESNET50[3:], {"mmdet": mmdet_on_the_last("DilatedEncoder", 512, 128, 4, [2, 4, 6, 8])}),
    "HRFPN": NeckCase(HRNET32, {"mmdet": mmdet("HRFPN", 256)}),
    "NASFCOSFPN": NeckCase(RESNET50[1:], {"mmdet": mmdet_nas_fcos}),
    "SSDNeck": NeckCase(SSD512, {"mmdet": mmdet_ssd}, {"last_kernel_size": 4}),
    "SSH": NeckCase(RESNET50, {"mmdet": mmdet_ssh}),
    "YOLOV3Neck": NeckCase(DARKNET, {"mmdet": mmdet_yolov3}),
}
# every registered neck, those without a counterpart as their cards have them
CASES = {name: NeckCase(neck.card.in_specs, {}, neck.card.arguments) for name, neck in NECKS.items()} | COMPARED
OURS = "ours"


def build(kind: str, who: str, size: tuple[int, int]) -> nn.Module:
    """Build our neck or a package's of a kind, for images of ``size`` (height, width)."""
    case = CASES[kind]
    if who == OURS:
        return NECKS[kind](in_channels=[spec.channels for spec in case.specs], **case.arguments)
    return case.peers[who](case.specs, size)
