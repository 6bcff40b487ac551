"""Extra levels after the last level of a pyramid: P6 by subsampling, or P6 and P7 by strided convolutions.

Sources: FPN (arXiv:1612.03144, section 4.1, footnote 2: P6 is a stride-2 subsampling of P5); RetinaNet
(arXiv:1708.02002, section 4, footnote 2: P6 is a 3x3 stride-2 convolution of C5, P7 is the same of ReLU(P6)). Reference
code: Detectron2 ``LastLevelMaxPool``, ``LastLevelP6P7`` (``modeling/backbone/fpn.py``); mmdet
``FPN`` with ``num_outs`` and ``add_extra_convs`` (``models/necks/fpn.py``); torchvision's classes of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import booleans, integer, one_of, shown
from ..keywords import check_keywords
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory
from ..ops.pooling import max_pool2d

OPS = ("max_pool", "conv")
SOURCES = ("input", "lateral", "output")


@dataclass(frozen=True)
class ExtraLevels:
    """Declaration of levels after the last one, which the neck builds for its channels.

    Args:
        num_levels: number of levels, each at half the resolution (rounded up) of the previous one.
        op: ``"max_pool"``: subsample the last output (kernel 1, stride 2); ``"conv"``: 3x3 convolutions, stride 2.
        source: input of the first convolution: the backbone's last map (``"input"``), the last lateral after merging
            (``"lateral"``) or the last output (``"output"``). Pooling always reads the output.
        relu: apply ReLU before each convolution except the first. mmdet's ``relu_before_extra_convs`` is off by
            default; Detectron2 and torchvision always apply it.
        bare: build plain convolutions (Detectron2, torchvision) instead of ones with the neck's norm and activation
            (mmdet).
        in_top_down: treat the levels as laterals: the top-down path starts at the last of them, and each has an output
            convolution, as in mmdet's ``FPN_CARAFE``. Requires ``op="conv"`` and ``source="input"``.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument outside the values above.
    """

    num_levels: int = 1
    op: str = "max_pool"
    source: str = "output"
    relu: bool = True
    bare: bool = True
    in_top_down: bool = False

    def __post_init__(self) -> None:
        if integer("ExtraLevels num_levels", self.num_levels) < 1:
            raise ValueError(f"ExtraLevels num_levels={self.num_levels} must be at least 1; pass extra_levels=None")
        booleans(relu=self.relu, bare=self.bare, in_top_down=self.in_top_down)
        one_of("ExtraLevels op", self.op, OPS)
        one_of("ExtraLevels source", self.source, SOURCES)
        if self.op == "max_pool" and self.source != "output":
            raise ValueError(f"ExtraLevels op='max_pool' reads the output, not source={self.source!r}; use op='conv'")
        if self.in_top_down and self.source != "input":
            raise ValueError(f"ExtraLevels in_top_down=True needs source='input', not {self.source!r}, and op='conv'")

    def build(
        self,
        in_channels: int,
        out_channels: int,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
    ) -> nn.Module:
        """Build the module, called as ``module(inputs, laterals, outputs)``, which returns the extra maps.

        ``in_channels`` are the backbone's last ones, ``out_channels`` those of the pyramid. The neck's ``norm``,
        ``act`` and ``conv`` are ignored if ``bare``.
        """
        if self.op == "max_pool":
            return MaxPoolLevels(self.num_levels)
        first = in_channels if self.source == "input" else out_channels
        if self.bare:
            norm = act = conv = None
        convs = [
            ConvNormAct(first if k == 0 else out_channels, out_channels, 3, stride=2, norm=norm, act=act, conv=conv)
            for k in range(self.num_levels)
        ]
        return ConvLevels(convs, self.source, self.relu)


def as_extra_levels(value: ExtraLevels | Mapping[str, object] | None) -> ExtraLevels | None:
    """Convert a mapping of the arguments (as in YAML and mmengine configs) to `ExtraLevels`; pass others through."""
    if value is None or isinstance(value, ExtraLevels):
        return value
    if isinstance(value, Mapping):
        arguments: dict[str, Any] = {str(key): entry for key, entry in value.items()}
        try:
            check_keywords(ExtraLevels, arguments)
            return ExtraLevels(**arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"extra_levels={shown(dict(value))}: {error}") from error
    raise TypeError(f"extra_levels must be ExtraLevels, a mapping of its arguments or None, got {shown(value)}")


def extra_levels_of_outputs(value: ExtraLevels | Mapping[str, object] | None, owner: str) -> ExtraLevels | None:
    """Convert as `as_extra_levels` does, for a neck whose inputs and laterals do not have the last level's resolution.

    Raises:
        ValueError: extra levels that do not follow an output; names the neck, ``owner``.
    """
    extra = as_extra_levels(value)
    if extra is not None and extra.source != "output":
        raise ValueError(
            f"extra_levels source={extra.source!r}: extra levels of {owner} must follow an output, the only map at the "
            "last level's resolution; use source='output'"
        )
    return extra


class MaxPoolLevels(nn.Module):
    """Extra levels that keep every second cell of the last output, so ``n`` cells become ``ceil(n / 2)``."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.num_levels = num_levels

    def forward(self, inputs: list[Tensor], laterals: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        """Return the extra maps, highest resolution first."""
        extra: list[Tensor] = []
        last = outputs[-1]
        for _ in range(self.num_levels):
            if torch.jit.is_scripting():
                last = F.max_pool2d(last, kernel_size=1, stride=2)
            else:
                last = max_pool2d(last, (1, 1), (2, 2))
            extra.append(last)
        return extra


class ConvLevels(nn.Module):
    """Extra levels computed by 3x3 convolutions of stride 2; built by `ExtraLevels`."""

    def __init__(self, convs: Sequence[nn.Module], source: str, relu: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.source = source
        self.relu = relu

    def forward(self, inputs: list[Tensor], laterals: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        """Return the extra maps, highest resolution first."""
        last = {"input": inputs, "lateral": laterals, "output": outputs}[self.source][-1]
        extra: list[Tensor] = []
        for index, conv in enumerate(self.convs):
            last = conv(F.relu(last) if self.relu and index > 0 else last)
            extra.append(last)
        return extra
