"""Necks: tuple of maps in, tuple of maps out, high to low resolution."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..features import FeatureSpec
from .baselines import SingleScale, SSDPyramid, TopDownPyramid
from .bfp import BFP
from .bifpn import BiFPN
from .csp_pafpn import CSPPAFPN
from .extra_levels import ExtraLevels
from .fpn import FPN, FPNLevel
from .nas_fpn import NASFPN
from .pafpn import PAFPN
from .panoptic_fpn import PanopticFPN, SemanticMerge
from .simple_pyramid import SimpleFeaturePyramid

# every neck; the adapters register these and the contract tests run over them
NECKS: dict[str, type[nn.Module]] = {
    neck.__name__: neck
    for neck in (
        FPN,
        PAFPN,
        BiFPN,
        NASFPN,
        CSPPAFPN,
        BFP,
        PanopticFPN,
        SimpleFeaturePyramid,
        SingleScale,
        SSDPyramid,
        TopDownPyramid,
    )
}

__all__ = [
    "BFP",
    "CSPPAFPN",
    "FPN",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "BiFPN",
    "ExtraLevels",
    "FPNLevel",
    "NeckChain",
    "PanopticFPN",
    "SSDPyramid",
    "SemanticMerge",
    "SimpleFeaturePyramid",
    "SingleScale",
    "TopDownPyramid",
    "build_neck",
]


class NeckChain(nn.Sequential):
    """Necks one behind the other, as ``BFP`` behind ``FPN``; state dict ``0.*``, ``1.*``, as mmdet's list of necks."""

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Those of the last neck."""
        specs = tuple(in_specs)
        for neck in self:
            specs = neck.out_specs(specs)  # type: ignore[operator]
        return specs


def build_neck(
    neck: nn.Module | Mapping[str, Any] | Sequence[nn.Module | Mapping[str, Any]], in_specs: Sequence[FeatureSpec]
) -> Any:
    """A neck that fits a backbone.

    Args:
        neck: a neck, which is checked against ``in_specs``, or ``{"type": name in NECKS, **arguments}`` without
            ``in_channels``, which are taken from ``in_specs``; or several of them, one behind the other (`NeckChain`).
        in_specs: what the backbone publishes.

    Raises:
        ValueError: unknown type (suggests near names), or a neck built for other channels.
        TypeError: an argument that the neck does not have, or something else than the above, such as a name alone.
    """
    if isinstance(neck, nn.Module):
        neck.out_specs(in_specs)  # type: ignore[operator]  # raises when it does not fit
        return neck
    if isinstance(neck, str) or not isinstance(neck, (Mapping, Sequence)) or not neck:
        raise TypeError(f'neck={neck!r} must be a neck, a mapping such as {{"type": "FPN"}}, or a list of such')
    if not isinstance(neck, Mapping):
        chain = NeckChain()
        for part in neck:
            chain.append(build_neck(part, chain.out_specs(in_specs)))
        return chain
    arguments = {str(key): value for key, value in neck.items()}
    name = arguments.pop("type", None)
    if name not in NECKS:
        near = difflib.get_close_matches(str(name), NECKS, n=3, cutoff=0.4)
        hint = f" (near: {near})" if near else ""
        raise ValueError(f"neck type={name!r} is unknown; choose one of {sorted(NECKS)}{hint}")
    arguments.setdefault("in_channels", [spec.channels for spec in in_specs])
    built = NECKS[name](**arguments)
    built.out_specs(in_specs)  # type: ignore[operator]
    return built
