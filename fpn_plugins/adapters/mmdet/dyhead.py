"""DyHead for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import positive_int
from ...registry import MODELS
from .init_cfg import SafeInit


@MODELS.register_module()
class DyHead(SafeInit, necks.DyHead, BaseModule):
    """`fpn_plugins.DyHead` with the arguments, defaults and initialization of mmdet's (``models/necks/dyhead.py``).

    It needs no compiled operator: ``neck=[dict(type='fpn_plugins.FPN', ...), dict(type='fpn_plugins.DyHead', ...)]``.

    Args:
        in_channels, out_channels, num_blocks, zero_init_offset: mmdet's.
        init_cfg: mmdet forbids it.
        num_levels: number of maps; ``None`` for any.
        more: further arguments of the core class.

    Raises:
        ValueError: an ``init_cfg``, or arguments outside the core's values.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 6,
        zero_init_offset: bool = True,
        init_cfg: None = None,
        num_levels: int | None = None,
        **more: Any,
    ) -> None:
        if init_cfg is not None:
            raise ValueError(f"init_cfg={init_cfg!r}: DyHead initializes itself, leave it out")
        self.num_levels = None if num_levels is None else positive_int("num_levels", num_levels)
        channels = [positive_int("in_channels", in_channels)] * (self.num_levels or 2)
        super().__init__(channels, positive_int("out_channels", out_channels), num_blocks, zero_init_offset, **more)
        self.init_cfg = None

    def _expected(self, inputs: Sequence[Tensor]) -> Sequence[int]:
        if self.num_levels is None and isinstance(inputs, (list, tuple)) and inputs:
            return [self.in_channels[0]] * len(inputs)
        return self.in_channels
