"""YOLOF's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import integers, positive_int
from ...registry import MODELS
from .arguments import Cfg
from .init_cfg import SafeInit


@MODELS.register_module()
class DilatedEncoder(SafeInit, necks.DilatedEncoder, BaseModule):
    """Drop-in for mmdet's ``DilatedEncoder`` (``models/necks/dilated_encoder.py``); its checkpoints load as they are.

    As in mmdet, with the channels of one map it reads the last of any number of maps; ``in_channels`` can also be the
    channels of all maps, as in a `PyramidBackbone`. ``init_cfg``, which mmdet's class does not have, is applied
    after the initialization of the paper.

    Raises:
        TypeError: an argument of another type.
        ValueError: more residual blocks than dilations.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        block_mid_channels: int,
        num_residual_blocks: int,
        block_dilations: Sequence[int],
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        dilations = integers("block_dilations", block_dilations, 1)
        if positive_int("num_residual_blocks", num_residual_blocks) > len(dilations):
            raise ValueError(
                f"num_residual_blocks={num_residual_blocks} needs as many block_dilations, got {list(dilations)}"
            )
        super().__init__(
            [positive_int("in_channels", in_channels)] if hasattr(in_channels, "__index__") else in_channels,
            out_channels,
            mid_channels=positive_int("block_mid_channels", block_mid_channels),
            dilations=dilations[:num_residual_blocks],
            **more,
        )
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Draw the initial weights, then apply ``init_cfg``."""
        if not self.is_init:
            self.reset_parameters()
        super().init_layers()

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the maps, or only the last one if the others' channels are not known, and return them."""
        alone = len(self.in_channels) == 1 and isinstance(inputs, (list, tuple))
        return super().used(inputs[-1:] if alone else inputs)
