"""Necks: tuple of maps in, tuple of maps out, high to low resolution."""

from ..moved import explain_moved_attributes
from .base import Neck, PyramidNeck
from .baselines import SingleScale, SSDPyramid, TopDownPyramid
from .bfp import BFP
from .bifpn import BiFPN
from .build import NECKS, NeckChain, build_neck, register_neck
from .card import NeckCard
from .csp_pafpn import CSPPAFPN
from .extra_levels import ExtraLevels
from .fpn import FPN
from .multi_scale_projector import MultiScaleProjector
from .nas_fpn import NASFPN
from .pafpn import PAFPN
from .panoptic_fpn import PanopticFPN, SemanticMerge
from .simple_pyramid import SimpleFeaturePyramid

explain_moved_attributes(__name__)

__all__ = [
    "BFP",
    "CSPPAFPN",
    "FPN",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "BiFPN",
    "ExtraLevels",
    "MultiScaleProjector",
    "Neck",
    "NeckCard",
    "NeckChain",
    "PanopticFPN",
    "PyramidNeck",
    "SSDPyramid",
    "SemanticMerge",
    "SimpleFeaturePyramid",
    "SingleScale",
    "TopDownPyramid",
    "build_neck",
    "register_neck",
]
