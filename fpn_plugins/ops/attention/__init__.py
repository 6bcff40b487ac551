"""Scaled dot-product attention with a bias, in the fastest form for a device and mode."""

from .choice import attend, choose_form
from .forms import AxialBias
from .grids import attend_grids, attend_windows

__all__ = ["AxialBias", "attend", "attend_grids", "attend_windows", "choose_form"]
