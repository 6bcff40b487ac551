"""Upsample maps in the top-down path, fixed or learned, always to the size of the finer map.

For learned resampling of a plain ViT's map see ``resampling.py``.
"""

from ..ops.cropping import fit
from ..ops.reassembly import reassemble
from .dysample import DySample
from .learned import CARAFE, DeconvUpsample, PixelShuffleUpsample
from .modes import (
    UPSAMPLE_MODES,
    FunctionalUpsample,
    Upsample,
    UpsampleEntry,
    UpsampleMode,
    check_upsample,
    make_upsample,
)

__all__ = [
    "CARAFE",
    "UPSAMPLE_MODES",
    "DeconvUpsample",
    "DySample",
    "FunctionalUpsample",
    "PixelShuffleUpsample",
    "Upsample",
    "UpsampleEntry",
    "UpsampleMode",
    "check_upsample",
    "fit",
    "make_upsample",
    "reassemble",
]
