"""Neck of CenterNet on a ResNet: Objects as Points (Zhou et al., arXiv:1904.07850, section 5 and figure 6 (b)).

::

    c5 /32 --3x3--deconv x2--> /16 --3x3--deconv x2--> /8 --3x3--deconv x2--> p2 /4

The 3x3 convolutions are deformable (DCNv2, arXiv:1811.11168). Transposed convolutions with a kernel of 4 cells double a
map exactly; other kernels make it one or more cells larger or smaller, as in mmdet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import integers, positive_int
from ..features import FeatureSpec, check_in_channels
from ..initialization import convs_to_initialize
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers
from ..ops import checkpointing
from ..ops.deformable import ModulatedDeformConv2d
from ..weights import accept_layouts
from ..weights.maps import ct_resnet_neck
from .base import PyramidNeck
from .card import NeckCard

RESNET18 = (FeatureSpec(512, 32),)


def init_bilinear(conv: nn.ConvTranspose2d) -> None:
    """Draw PyTorch's initial weights, then let the first output channel interpolate each input bilinearly.

    The original code wrote the kernel for depthwise convolutions, and mmdet keeps its first channel.
    """
    conv.reset_parameters()
    side = conv.weight.shape[-1]
    half = (side + 1) // 2
    center = (2 * half - 1 - half % 2) / (2 * half)
    ramp = 1 - (torch.arange(side, dtype=torch.float64, device=conv.weight.device) / half - center).abs()
    with torch.no_grad():
        conv.weight[:, 0] = ramp[:, None] * ramp


class CTResNetNeck(PyramidNeck):
    """Double the resolution of one map several times, each by a 3x3 convolution and a transposed one.

    Args:
        in_channels: channels of each input map.
        out_channels: channels after each doubling, or one number for three doublings (paper: 256, 128, 64).
        kernel_sizes: sides of the kernels of the transposed convolutions in cells, or one number for all.
        in_indices: position of the map to use; ``None`` for the last.
        norm: norm after each convolution.
        act: activation after each convolution.
        conv: factory of the 3x3 convolutions; ``None`` for ``nn.Conv2d``.
        gradient_checkpointing: recompute all maps in backward instead of keeping them.

    State dict: ``deconv_layers.{i}``, 3x3 and transposed convolutions in turn, each with ``conv.*`` and ``norm.*``.
    mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above, several positions, or (`out_specs`) a map whose stride cannot
            be halved as often.
    """

    card = NeckCard(
        idea="The coarsest map, doubled three times by deformable and transposed convolutions.",
        use_when="with CenterNet's head, which reads one map of stride 4.",
        caveats="One map, without the backbone's finer ones: it serves all sizes of objects, but precise edges are "
        "lost at stride 32.",
        paper="Xingyi Zhou, Dequan Wang, Philipp Krähenbühl: Objects as Points. arXiv 2019, arXiv:1904.07850",
        reference="mmdet `models/necks/ct_resnet_neck.py`",
        topology="""
               backbone | /16          | /8           | output
            5: C5       |              |              |
            4:          | M4 < DCN, deconv: C5 |      |
            3:          |              | M3 < DCN, deconv: M4 |
            2:          |              |              | P2 < DCN, deconv: M3""",
        results=(
            "box AP 29.5: CenterNet, R18, 140 epochs (mmdet model zoo)",
            "box AP 25.9: the same without deformable convolutions (mmdet model zoo)",
        ),
        in_specs=RESNET18,
        example_specs=(FeatureSpec(24, 32),),
        example_arguments={"out_channels": (16, 8)},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | Sequence[int] = (256, 128, 64),
        kernel_sizes: int | Sequence[int] = 4,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = ModulatedDeformConv2d,
        gradient_checkpointing: bool = False,
    ) -> None:
        last = len(check_in_channels(in_channels)) - 1
        indices = (last,) if in_indices is None else integers("in_indices", in_indices)
        if len(indices) != 1:
            raise ValueError(f"CTResNetNeck uses one map, got in_indices={list(indices)}; name the position of one")
        channels = _per_stage("out_channels", out_channels, 3)
        kernels = _per_stage("kernel_sizes", kernel_sizes, len(channels))
        super().__init__(in_channels, channels[-1] if channels else 0, indices, gradient_checkpointing)
        if len(kernels) != len(channels):
            raise ValueError(f"kernel_sizes={list(kernels)} must have one entry per entry of out_channels")
        check_layers(norm=norm, act=act, conv=conv)
        layers: dict[str, Any] = {"norm": norm, "act": act}
        self.deconv_layers = nn.Sequential()
        for before, after, kernel in zip((self.used_channels[0], *channels), channels, kernels, strict=False):
            self.deconv_layers.append(ConvNormAct(before, after, 3, conv=conv, **layers))
            self.deconv_layers.append(
                ConvNormAct(after, after, kernel, 2, conv=nn.ConvTranspose2d, padding=1, **layers)
            )
        self.reset_parameters()
        accept_layouts(self, (ct_resnet_neck.mmdet(),), level_prefixes=("deconv_layers.",))

    def reset_parameters(self) -> None:
        """Draw the initial weights: PyTorch's for convolutions, see `init_bilinear` for transposed ones."""
        for layer in convs_to_initialize(self):
            layer.reset_parameters() if isinstance(layer, nn.Conv2d) else init_bilinear(layer)

    def out_strides(self, strides: list[int]) -> list[int]:
        """Return the stride of the output.

        Raises:
            ValueError: a stride that cannot be halved once per transposed convolution.
        """
        factor = 2 ** (len(self.deconv_layers) // 2)
        if strides[0] % factor:
            raise ValueError(
                f"CTResNetNeck divides a stride by {factor}, but its map has stride {strides[0]}; choose another map "
                "with in_indices, or fewer out_channels"
            )
        return [strides[0] // factor]

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the output, as a list of one map."""
        return [checkpointing.run(self.deconv_layers, inputs[0], checkpointed=self.gradient_checkpointing)]


def _per_stage(argument: str, value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, Sequence):
        return integers(argument, value, 1)
    return (positive_int(argument, value),) * count
