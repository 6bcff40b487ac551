"""Neck of SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016, arXiv:1512.02325, section 2.1 and figure 2).

::

    c4 --L2 norm, learned scale--------> p4
    c5 --------------------------------> p5
     |--1x1--3x3, stride 2-------------> p6
                  |--1x1--3x3, stride 2> p7 --> ...

The maps of the backbone are outputs as they are, and levels are added by pairs of convolutions; no level reads a
coarser one. The first map, whose values are larger than those of the others, is scaled to a length of
``l2_norm_scale`` per cell (ParseNet, arXiv:1506.04579). SSDLite (MobileNetV2, arXiv:1801.04381, section 6.2) has
depthwise separable convolutions and no such norm.

Deliberate difference from mmdet: the L2 norm computes in the precision of the map or in single precision, whichever is
higher, where mmdet's is always single.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import boolean, integers, number, positive_int
from ..features import FeatureSpec
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..ops.tracing import traced
from ..weights import accept_layouts
from ..weights.maps import ssd_neck
from .base import PyramidNeck
from .card import NeckCard
from .csp import DepthwiseSeparableConv

# VGG-16's conv4_3 and fc7 on 512 x 512 images
SSD512 = (FeatureSpec(512, 8), FeatureSpec(1024, 16))


class L2Norm(nn.Module):
    """Scale each cell of a ``B C H W`` map to length 1, then each channel by a learned weight.

    Args:
        channels: channels of the map.
        scale: initial value of the weights.
        eps: added to the length.
    """

    def __init__(self, channels: int, scale: float, eps: float = 1e-10) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.scale, self.eps = float(scale), eps
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every weight to the initial scale."""
        nn.init.constant_(self.weight, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W`` of the same dtype."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        length = wide.square().sum(1, keepdim=True).sqrt() + self.eps
        return (self.weight[:, None, None].to(wide.dtype) * wide / length).to(x.dtype)


class SSDNeck(PyramidNeck):
    """Maps of a backbone as they are, and levels after the last one by pairs of convolutions.

    Args:
        in_channels, in_indices: see `PyramidNeck`.
        extra_channels: channels of each added level (SSD512: five levels).
        extra_strides: stride of the second convolution of each; ``None`` for 2.
        extra_paddings: its padding in cells; ``None`` for 1. Stride 1 without padding shrinks a map by two cells, as
            SSD300's last two levels do, from 5 to 3 to 1.
        l2_norm_scale: initial scale of the first map's norm; ``None`` or 0 for no norm (SSDLite).
        last_kernel_size: side of the very last kernel in cells (SSD512: 4).
        depthwise: whether the second convolutions are depthwise separable (SSDLite).
        norm: see `make_norm`; ``None`` as in the paper.
        act: activation after each convolution.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`.
        gradient_checkpointing: keep only the inputs for backward, and recompute the added levels.

    An added level is published at twice the stride of the level before it.

    State dict: ``l2_norm.weight``, ``extra_convs.{k}.0`` and ``extra_convs.{k}.1``, each with ``conv.*`` and
    ``norm.*``. mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above, or lists of different lengths.
    """

    card = NeckCard(
        idea="The backbone's maps as they are, and coarser levels by pairs of convolutions; no top-down path.",
        use_when="with SSD's head, whose predictors take levels of different widths, and where milliseconds count.",
        caveats="Fine levels lack semantics. Levels keep the backbone's widths, so heads that share their weights "
        "between levels (RetinaNet's, Faster R-CNN's) do not fit.",
        paper="Wei Liu, Dragomir Anguelov, Dumitru Erhan, Christian Szegedy, Scott Reed, Cheng-Yang Fu, Alexander C. "
        "Berg: SSD: Single Shot MultiBox Detector. ECCV 2016, arXiv:1512.02325",
        reference="mmdet `models/necks/ssd_neck.py`",
        topology="""
               backbone | output
            9:          | P9 < P8
            8:          | P8 < P7
            7:          | P7 < P6
            6:          | P6 < P5
            5:          | P5 < P4
            4: C4       | P4 < C4
            3: C3       | P3 < L2 norm: C3""",
        results=("box AP 29.5: SSD512, VGG-16, 120 epochs (mmdet model zoo)",),
        in_specs=SSD512,
        arguments={"last_kernel_size": 4},
        example_arguments={"extra_channels": (16, 8), "norm": "BN"},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        extra_channels: Sequence[int] = (512, 256, 256, 256, 256),
        extra_strides: Sequence[int] | None = None,
        extra_paddings: Sequence[int] | None = None,
        l2_norm_scale: float | None = 20.0,
        last_kernel_size: int = 3,
        depthwise: bool = False,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        init: str | None = "xavier_uniform",
        gradient_checkpointing: bool = False,
    ) -> None:
        channels = integers("extra_channels", extra_channels, 2)
        super().__init__(in_channels, max((*channels, 1)), in_indices, gradient_checkpointing)
        count = len(channels)
        strides = integers("extra_strides", (2,) * count if extra_strides is None else extra_strides, 1, count)
        paddings = integers("extra_paddings", (1,) * count if extra_paddings is None else extra_paddings, 0, count)
        positive_int("last_kernel_size", last_kernel_size)
        boolean("depthwise", depthwise)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        layers: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        second: Callable[..., nn.Module] = DepthwiseSeparableConv if depthwise else ConvNormAct
        kernels = [3] * count
        kernels[-1:] = [last_kernel_size] * min(count, 1)
        self.smallest = [kernel - 2 * padding for kernel, padding in zip(kernels, paddings, strict=True)]

        self.all_channels = (*self.used_channels, *channels)
        self.num_extra_levels = count
        scale = 0.0 if l2_norm_scale is None else number("l2_norm_scale", l2_norm_scale, 0)
        self.l2_norm = L2Norm(self.used_channels[0], scale) if scale else None
        self.extra_convs = nn.ModuleList()
        for k, (before, after) in enumerate(zip((self.used_channels[-1], *channels), channels, strict=False)):
            window: dict[str, Any] = {"kernel_size": kernels[k], "stride": strides[k], "padding": paddings[k]}
            first = ConvNormAct(before, after // 2, 1, **layers)
            self.extra_convs.append(nn.Sequential(first, second(after // 2, after, **window, **layers)))
        init_convs(self, init)
        accept_layouts(self, (ssd_neck.mmdet(),), level_prefixes=("extra_convs.",))

    def level_channels(self, number: int) -> Sequence[int]:
        """Return the channels of each output."""
        return self.all_channels

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the levels, checkpointed as a whole; see `PyramidNeck.forward`."""
        used = self.used(inputs)
        return tuple(checkpointing.run(self.pyramid, used, checkpointed=self.gradient_checkpointing))

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution.

        Raises:
            ValueError: a map that is smaller than the window of the next level.
        """
        outputs = list(inputs)
        if self.l2_norm is not None:
            outputs[0] = self.l2_norm(outputs[0])
        for smallest, convs in zip(self.smallest, self.extra_convs, strict=True):
            if not traced() and min(outputs[-1].shape[-2:]) < smallest:
                raise ValueError(
                    f"SSDNeck's level {len(outputs)} needs a map of at least {smallest} x {smallest} cells before it, "
                    f"but that has {tuple(outputs[-1].shape[-2:])}; use larger images, fewer extra_channels, or more "
                    "extra_paddings"
                )
            outputs.append(convs(outputs[-1]))
        return outputs
