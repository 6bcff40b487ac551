"""BFP for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
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
        super().__init__(
            [in_channels] * num_levels,
            refine_index=refine_level,
            refine=refine_type,
            norm=norm_factory(norm_cfg),
            conv=conv_factory(conv_cfg),
            **more,
        )
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, then reinitialize the refining part, as mmengine does with mmdet's own modules."""
        super().init_layers()
        self.init_refine()
