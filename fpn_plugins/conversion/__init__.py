"""Convert whole detectors between toolboxes."""

from .compatibility import DetectorFacts
from .detectors import Conversion, convert

__all__ = ["Conversion", "DetectorFacts", "convert"]
