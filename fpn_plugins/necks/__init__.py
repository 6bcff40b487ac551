"""Necks: tuple of maps in, tuple of maps out, high to low resolution."""

from ..moved import explain_moved_attributes
from .base import Neck, PyramidNeck
from .baselines import SingleScale, SSDPyramid, TopDownPyramid
from .bfp import BFP
from .bifpn import BiFPN
from .build import NECKS, NeckChain, build_neck, register_neck
from .card import NeckCard, NeckVariant
from .channel_mapper import ChannelMapper
from .csp_pafpn import CSPPAFPN
from .cspnext_pafpn import CSPNeXtPAFPN
from .ct_resnet_neck import CTResNetNeck
from .dilated_encoder import DilatedEncoder
from .drop_block import DropBlock
from .dyhead import DyHead
from .extra_levels import ExtraLevels
from .fpg import FPG
from .fpn import FPN
from .freq_fusion import FreqFusion
from .hrfpn import HRFPN
from .hybrid_encoder import HybridEncoder
from .multi_scale_projector import MultiScaleProjector
from .nas_fcos_fpn import NASFCOSFPN
from .nas_fpn import NASFPN
from .pafpn import PAFPN
from .panoptic_fpn import PanopticFPN, SemanticMerge
from .pixel_decoder import MSDeformAttnPixelDecoder
from .rep import fuse_convs
from .rfp import RFP
from .simple_pyramid import SimpleFeaturePyramid
from .ssd_neck import SSDNeck
from .ssh import SSH, SSHContext, SSHModule
from .yolov3_neck import YOLOV3Neck

explain_moved_attributes(__name__)

__all__ = [
    "BFP",
    "CTResNetNeck",
    "NASFCOSFPN",
    "SSDNeck",
    "YOLOV3Neck",
    "CSPPAFPN",
    "FPG",
    "FPN",
    "HRFPN",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "RFP",
    "SSH",
    "BiFPN",
    "ChannelMapper",
    "DilatedEncoder",
    "DropBlock",
    "DyHead",
    "CSPNeXtPAFPN",
    "ExtraLevels",
    "MSDeformAttnPixelDecoder",
    "FreqFusion",
    "HybridEncoder",
    "MultiScaleProjector",
    "Neck",
    "NeckCard",
    "NeckChain",
    "NeckVariant",
    "PanopticFPN",
    "PyramidNeck",
    "SSDPyramid",
    "SSHContext",
    "SSHModule",
    "SemanticMerge",
    "SimpleFeaturePyramid",
    "SingleScale",
    "TopDownPyramid",
    "build_neck",
    "fuse_convs",
    "register_neck",
]
