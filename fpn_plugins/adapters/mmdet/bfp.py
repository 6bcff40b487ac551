"""BFP for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import integer, one_of, positive_int
from ...registry import MODELS
from .arguments import Cfg, conv_factory, norm_factory
from .fpn import XAVIER
from .init_cfg import SafeInit


@MODELS.register_module()
class BFP(SafeInit, necks.BFP, BaseModule):
    """Drop-in for mmdet's ``BFP`` (``models/necks/bfp.py``); its checkpoints load as they are.

    BFP follows another neck: ``neck=[dict(type='fpn_plugins.FPN', ...), dict(type='fpn_plugins.BFP', ...)]``.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        refine_level: int = 2,
        refine_type: str | None = None,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        positive_int("num_levels", num_levels)
        integer("refine_level", refine_level, 0, num_levels - 1)
        super().__init__(
            [positive_int("in_channels", in_channels)] * num_levels,
            refine_index=refine_level,
            refine=None if refine_type is None else one_of("refine_type", refine_type, necks.bfp.REFINES, ", or None"),
            norm=norm_factory(norm_cfg),
            conv=conv_factory(conv_cfg),
            **more,
        )
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, then reinitialize the refining part, as mmengine does with mmdet's own modules."""
        super().init_layers()
        self.init_refine()
