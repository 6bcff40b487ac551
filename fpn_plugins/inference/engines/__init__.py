"""Run exported detectors with ONNX Runtime, OpenVINO or PyTorch; no toolbox is needed."""

from .files import ENGINES, SUFFIXES, digest_of, engine_for, is_exported
from .metadata import KEY, WEIGHTS_KEY, InputFormat, Metadata, StoredReader
from .predictor import EnginePredictor, load_engine
from .sessions import Session, open_session

__all__ = [
    "ENGINES",
    "KEY",
    "SUFFIXES",
    "WEIGHTS_KEY",
    "EnginePredictor",
    "InputFormat",
    "Metadata",
    "Session",
    "StoredReader",
    "digest_of",
    "engine_for",
    "is_exported",
    "load_engine",
    "open_session",
]
