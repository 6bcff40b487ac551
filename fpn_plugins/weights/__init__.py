"""Checkpoint -> key map -> module."""

from .checkpoint import read_checkpoint, under, write_checkpoint
from .convert import Conversion, convert
from .key_map import KeyMap, Report, Rule, Transform
from .pairing import pair_by_order
from .recognition import accept_layouts, recognise, redirect_keys

__all__ = [
    "Conversion",
    "KeyMap",
    "Report",
    "Rule",
    "Transform",
    "accept_layouts",
    "convert",
    "pair_by_order",
    "read_checkpoint",
    "recognise",
    "redirect_keys",
    "under",
    "write_checkpoint",
]
