"""Build necks by name, register users' own, and chain several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import nn

from ..checks import one_of, shown
from ..features import FeatureSpec, check_feature_specs
from ..keywords import check_keywords, keyword_parameters, theirs, type_name
from ..ops.scripting import ChainForm, scriptable_form
from .base import check_neck
from .baselines import SingleScale, SSDPyramid, TopDownPyramid
from .bfp import BFP
from .bifpn import BiFPN
from .channel_mapper import ChannelMapper
from .csp_pafpn import CSPPAFPN
from .cspnext_pafpn import CSPNeXtPAFPN
from .ct_resnet_neck import CTResNetNeck
from .dilated_encoder import DilatedEncoder
from .dyhead import DyHead
from .fpg import FPG
from .fpn import FPN
from .hrfpn import HRFPN
from .hybrid_encoder import HybridEncoder
from .multi_scale_projector import MultiScaleProjector
from .nas_fcos_fpn import NASFCOSFPN
from .nas_fpn import NASFPN
from .pafpn import PAFPN
from .panoptic_fpn import PanopticFPN
from .pixel_decoder import MSDeformAttnPixelDecoder
from .rfp import RFP
from .simple_pyramid import SimpleFeaturePyramid
from .ssd_neck import SSDNeck
from .ssh import SSH
from .yolov3_neck import YOLOV3Neck

_OURS = (
    *(FPN, PAFPN, BiFPN, NASFPN, FPG, CSPPAFPN, CSPNeXtPAFPN, HybridEncoder, BFP, DyHead, RFP, PanopticFPN),
    *(SimpleFeaturePyramid, MultiScaleProjector, ChannelMapper, HRFPN, DilatedEncoder, SSH),
    *(MSDeformAttnPixelDecoder, NASFCOSFPN, SSDNeck, YOLOV3Neck, CTResNetNeck),
    *(SSDPyramid, TopDownPyramid, SingleScale),
)
# every neck by its class name, in the order of the docs; the adapters and the contract tests iterate over this table
NECKS: dict[str, type[nn.Module]] = {neck.__name__: neck for neck in _OURS}

NeckClass = TypeVar("NeckClass", bound=type[nn.Module])


def register_neck(neck: NeckClass) -> NeckClass:
    """Class decorator: add a neck to ``NECKS`` under its class name, so that `build_neck` finds it.

    Args:
        neck: a subclass of ``nn.Module`` that conforms to `Neck`; ``card``, a `NeckCard`, is optional.

    Raises:
        TypeError: the class does not conform to `Neck` (the message names what is missing), or has a parameter that
            `build_neck` cannot pass, because it is positional-only or named ``type``.
        ValueError: the name is taken by another class.
    """
    check_neck(neck)
    keyword_parameters(neck, "neck")
    name = neck.__name__
    if NECKS.get(name, neck) is not neck:
        raise ValueError(f"neck name {name!r} is taken by {NECKS[name].__module__}.{name}; rename the class")
    NECKS[name] = neck
    return neck


class NeckChain(nn.Sequential):
    """Necks applied one after another, e.g., ``BFP`` after ``FPN``; state dict ``0.*``, ``1.*``, like mmdet's lists.

    ``torch.jit.script`` compiles a chain of scriptable necks, on lists of maps.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["in_channels", "read_indices"]

    @property
    def in_channels(self) -> Sequence[int]:
        """Channels of the maps that the first neck reads."""
        return self[0].in_channels  # type: ignore[return-value]

    @property
    def read_indices(self) -> tuple[int, ...] | None:
        """Return the positions of the inputs that the first neck reads; ``None`` if it does not say."""
        return getattr(self[0], "read_indices", None)

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the specs of the last neck's outputs."""
        specs = tuple(in_specs)
        for neck in self:
            specs = neck.out_specs(specs)  # type: ignore[operator]
        return specs

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that ``torch.jit.script`` compiles instead of this one."""
        return scriptable_form(self, ChainForm)


def build_neck(
    neck: nn.Module | Mapping[str, Any] | Sequence[nn.Module | Mapping[str, Any]], in_specs: Sequence[FeatureSpec]
) -> Any:
    """Build a neck that fits a backbone.

    Args:
        neck: a module that conforms to `Neck`, which is checked against ``in_specs``; or
            ``{"type": name in NECKS, **arguments}``, where ``in_channels`` defaults to the channels of ``in_specs``;
            or a sequence of these, applied one after another (`NeckChain`).
        in_specs: channels and strides that the backbone publishes.

    Returns:
        An ``nn.Module`` that conforms to `Neck`.

    Raises:
        ValueError: unknown type (suggests similar names), or a neck built for other channels.
        TypeError: an argument that the neck does not have, a module that does not conform to `Neck` (the message names
            what is missing), or any other value, such as a bare name.
    """
    if isinstance(neck, str) or not isinstance(neck, (nn.Module, Mapping, Sequence)) or not neck:
        raise TypeError(f'neck={shown(neck)} must be a neck, a mapping such as {{"type": "FPN"}}, or a list of these')
    if isinstance(neck, Sequence):
        chain = NeckChain()
        for position, part in enumerate(neck):
            specs = chain.out_specs(in_specs)
            try:
                chain.append(build_neck(part, specs))
            except (TypeError, ValueError) as error:
                before = f", after {type(chain[-1]).__name__}" if position else ""
                raise type(error)(f"neck[{position}]{before}: {error}") from error
        return chain
    built: Any = _from_mapping(neck, in_specs) if isinstance(neck, Mapping) else neck
    check_neck(built)
    specs = built.out_specs(in_specs)  # raises ValueError if the neck does not fit
    check_feature_specs(specs, f"neck {type(built).__name__}.out_specs")
    return built


def _from_mapping(neck: Mapping[str, Any], in_specs: Sequence[FeatureSpec]) -> nn.Module:
    arguments = {str(key): value for key, value in neck.items()}
    name = type_name("neck", neck)
    kind = NECKS[one_of("neck type", name, NECKS, f", or add yours with register_neck{theirs(name)}")]
    arguments.pop("type", None)
    check_keywords(kind, arguments)
    arguments.setdefault("in_channels", [spec.channels for spec in in_specs])
    return kind(**arguments)
