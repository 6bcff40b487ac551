"""SSH: Single Stage Headless Face Detector (Najibi et al., ICCV 2017, arXiv:1708.03979, figures 3 and 4).

::

    c --+--3x3----------------------------+
        |                                 |
        +--3x3--+--3x3 (5x5 field)--------+--concat--ReLU--> p      the same for each map
                |                         |
                +--3x3--3x3 (7x7 field)---+

Half of the output channels are the first branch's, a quarter each the others'. Maps do not exchange anything; the
module usually follows an FPN (RetinaFace).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import integers, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, make_act
from ..weights import accept_layouts
from ..weights.maps import ssh
from .base import ListNeck
from .card import NeckCard


class SSHContext(nn.Module):
    """Context module: two branches of 3x3 convolutions that see 5x5 and 7x7 cells and share the first convolution.

    Args:
        in_channels: channels of the input map.
        out_channels: four times the channels of each branch.
        norm, act, conv: see `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        width = out_channels // 4
        self.conv5x5_1 = ConvNormAct(in_channels, width, 3, norm=norm, act=act, conv=conv)
        self.conv5x5_2 = ConvNormAct(width, width, 3, norm=norm, conv=conv)
        self.conv7x7_2 = ConvNormAct(width, width, 3, norm=norm, act=act, conv=conv)
        self.conv7x7_3 = ConvNormAct(width, width, 3, norm=norm, conv=conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to both branches, ``B C_out/2 H W``."""
        shared = self.conv5x5_1(x)
        return torch.cat([self.conv5x5_2(shared), self.conv7x7_3(self.conv7x7_2(shared))], dim=1)


class SSHModule(nn.Module):
    """Detection module: a 3x3 convolution beside the context module, joined and activated.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map, a multiple of 4.
        norm, act, conv: see `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.conv3x3 = ConvNormAct(in_channels, out_channels // 2, 3, norm=norm, conv=conv)
        self.context = SSHContext(in_channels, out_channels, norm, act, conv)
        self.act = make_act(act) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out H W``."""
        return self.act(torch.cat([self.conv3x3(x), self.context(x)], dim=1))


class SSH(ListNeck):
    """SSH's detection module on each map.

    Args:
        in_channels, in_indices: see `PyramidNeck`.
        out_channels: channels of the outputs, multiples of 4: one number for all, or one per used map.
        norm: norm after each convolution, see `make_norm`.
        act: activation of the context module and of the joined map, see `make_act`.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; ``"kaiming_normal"`` is that of mmdet's convolutions after ``init_weights``.
        gradient_checkpointing: keep only the inputs for backward, and recompute the maps between them and the outputs.

    The inputs can have any sizes.

    State dict: ``levels.<i>.conv3x3``, ``levels.<i>.context.{conv5x5_1,conv5x5_2,conv7x7_2,conv7x7_3}``, each with
    ``conv.*`` and ``norm.*``. mmdet's layout loads unchanged.

    Raises:
        ValueError: channels that are no multiple of 4, or not one number per map.
    """

    card = NeckCard(
        idea="Each map by itself gets branches of 3x3, 5x5 and 7x7 cells, made of 3x3 convolutions, and joins them.",
        use_when="after an FPN in front of plain heads, for faces and other small objects that need context.",
        caveats="Without an FPN before it, fine levels lack semantics.",
        paper="Mahyar Najibi, Pouya Samangouei, Rama Chellappa, Larry S. Davis: SSH: Single Stage Headless Face "
        "Detector. ICCV 2017, arXiv:1708.03979",
        reference="mmdet `models/necks/ssh.py`",
        topology="""
               backbone | context                      | output
            5: C5       | M5 (5×5, 7×7) < C5 | P5 (concat 3×3) < C5 M5
            4: C4       | M4 (5×5, 7×7) < C4 | P4 (concat 3×3) < C4 M4
            3: C3       | M3 (5×5, 7×7) < C3 | P3 (concat 3×3) < C3 M3
            2: C2       | M2 (5×5, 7×7) < C2 | P2 (concat 3×3) < C2 M2""",
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | Sequence[int] = 256,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        init: str | None = "kaiming_normal",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, 4, in_indices, gradient_checkpointing)
        self.widths = _check_widths(out_channels, len(self.used_channels))
        self.out_channels = max(self.widths)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        self.levels = nn.ModuleList(
            SSHModule(channels, width, norm, act, conv)
            for channels, width in zip(self.used_channels, self.widths, strict=True)
        )
        init_convs(self, init)
        accept_layouts(self, (ssh.mmdet(),), ("levels.",))

    def level_channels(self, number: int) -> Sequence[int]:
        """Return the channels of each output."""
        return self.widths

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs; TorchScript compiles this method."""
        return [level(inputs[index]) for index, level in enumerate(self.levels)]


def _check_widths(out_channels: int | Sequence[int], number: int) -> tuple[int, ...]:
    if hasattr(out_channels, "__index__"):
        widths = number * (positive_int("out_channels", out_channels),)
    else:
        widths = integers("out_channels", out_channels, 1, number)
    if any(width % 4 for width in widths):
        raise ValueError(f"out_channels={list(widths)} must be multiples of 4: the widest branch has half of them")
    return widths
