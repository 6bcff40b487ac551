"""Convert whole detectors between toolboxes."""

from .compatibility import DetectorFacts
from .detectors import Conversion, convert
from .heads import count_classes

__all__ = ["Conversion", "DetectorFacts", "convert", "count_classes"]
