"""Load weights: read a checkpoint file, translate its key names by a table, fill the module."""

from ..moved import explain_moved_attributes
from .checkpoint import read_checkpoint, read_class_names, strip_prefix, write_checkpoint
from .input_channels import adapt_channels
from .key_map import KeyMap, Report, Rule, Transform
from .layouts import accept_layouts, recognize, redirect_keys

explain_moved_attributes(__name__)

__all__ = [
    "KeyMap",
    "Report",
    "Rule",
    "Transform",
    "accept_layouts",
    "adapt_channels",
    "read_checkpoint",
    "read_class_names",
    "recognize",
    "redirect_keys",
    "strip_prefix",
    "write_checkpoint",
]
