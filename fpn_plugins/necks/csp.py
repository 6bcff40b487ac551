"""Cross-stage-partial layers and depthwise separable convolution, parts of YOLOX's and RTMDet's necks and of LW-DETR's.

CSPNet (Wang et al., CVPR-W 2020, arXiv:1911.11929), in the form of YOLOv5 and YOLOX::

    x --main 1x1--> [1x1, 3x3] x n --+
      |                              concat --final 1x1-->
      +--short 1x1-------------------+

RTMDet (arXiv:2212.07784, section 3.1) replaces the blocks by a 3x3 convolution and a depthwise separable 5x5 one. In
LW-DETR (arXiv:2406.03459), the final convolution reads the map after each of the blocks, the aggregation of ELAN
(arXiv:2211.04800)::

    x --first 1x1-- first half ---------------------------------------+
          |                                                           concat --final 1x1-->
          +-------- second half --+--[3x3, 3x3]--+--[3x3, 3x3]--+ .. -+
                                  +--------------|--------------|-----+
                                                 +--------------|-----+

Reference code: mmdet ``models/layers/csp_layer.py`` (``CSPLayer`` without the shortcut inside its blocks, which the
necks do not use), mmcv ``cnn/bricks/depthwise_separable_conv_module.py``, and ``C2f`` in LW-DETR's
``models/backbone/projector.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import ConvFactory, ConvNormAct, make_conv


class DepthwiseSeparableConv(nn.Module):
    """Depthwise 3x3 convolution (or ``kernel_size``), then 1x1 convolution, each with norm and activation.

    Arguments are those of `ConvNormAct`; ``padding`` is the first convolution's. Source: MobileNets (Howard et al.,
    arXiv:1704.04861, section 3.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        conv: ConvFactory | None = None,
        kernel_size: int = 3,
        padding: int | None = None,
        **layers: Any,
    ) -> None:
        super().__init__()
        each = partial(make_conv(conv), groups=in_channels)
        self.depthwise_conv = ConvNormAct(
            in_channels, in_channels, kernel_size, stride, conv=each, padding=padding, **layers
        )
        self.pointwise_conv = ConvNormAct(in_channels, out_channels, 1, conv=conv, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out ceil(H / stride) ceil(W / stride)``."""
        return self.pointwise_conv(self.depthwise_conv(x))


def make_conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, depthwise: bool = False, **layers: Any
) -> nn.Module:
    """Build a 3x3 convolution, plain or depthwise separable; ``layers`` are norm, act and conv of `ConvNormAct`."""
    if depthwise:
        return DepthwiseSeparableConv(in_channels, out_channels, stride, **layers)
    return ConvNormAct(in_channels, out_channels, 3, stride, **layers)


class Bottleneck(nn.Module):
    """1x1 (or ``kernel_size``), then 3x3 convolution at the same width (Darknet's block without its shortcut)."""

    def __init__(self, channels: int, depthwise: bool = False, kernel_size: int = 1, **layers: Any) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, kernel_size, **layers)
        self.conv2 = make_conv3x3(channels, channels, depthwise=depthwise, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        return self.conv2(self.conv1(x))


class CSPNeXtBlock(nn.Module):
    """3x3, then depthwise separable 5x5 convolution at the same width (RTMDet's block without its shortcut).

    The first convolution is an ``nn.Conv2d`` whatever ``conv`` is, as in mmdet.
    """

    def __init__(self, channels: int, depthwise: bool = False, **layers: Any) -> None:
        super().__init__()
        self.conv1 = make_conv3x3(channels, channels, depthwise=depthwise, **{**layers, "conv": None})
        self.conv2 = DepthwiseSeparableConv(channels, channels, kernel_size=5, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        return self.conv2(self.conv1(x))


class CSPLayer(nn.Module):
    """CSP layer: half of the channels pass through ``num_blocks`` bottlenecks, the other half around them.

    Args:
        in_channels: total channels of the input maps.
        out_channels: channels of the output map.
        num_blocks: number of bottlenecks, each ``out_channels * expand_ratio`` wide, rounded down.
        depthwise: whether their 3x3 convolutions are depthwise separable.
        expand_ratio: width of each of the two branches relative to ``out_channels``.
        block: `Bottleneck` or `CSPNeXtBlock`.
        **layers: ``norm``, ``act`` and ``conv`` of `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 1,
        depthwise: bool = False,
        expand_ratio: float = 0.5,
        block: Callable[..., nn.Module] = Bottleneck,
        **layers: Any,
    ) -> None:
        super().__init__()
        width = int(out_channels * expand_ratio)
        self.main_conv = ConvNormAct(in_channels, width, 1, **layers)
        self.short_conv = ConvNormAct(in_channels, width, 1, **layers)
        self.final_conv = ConvNormAct(2 * width, out_channels, 1, **layers)
        self.blocks = nn.Sequential(*(block(width, depthwise, **layers) for _ in range(num_blocks)))

    def forward(self, maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Map ``B C_in H W``, or several maps to be concatenated, to ``B C_out H W``."""
        x = maps if isinstance(maps, Tensor) else torch.cat(tuple(maps), dim=1)
        return self.final_conv(torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1))


class C2f(nn.Module):
    """CSP layer whose final convolution reads the output of every block, not only that of the last one.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        num_blocks: number of bottlenecks of two 3x3 convolutions, each ``out_channels * expand_ratio`` wide.
        depthwise: whether the second of each two is depthwise separable.
        expand_ratio: width of each of the two branches relative to ``out_channels``.
        **layers: ``norm``, ``act`` and ``conv`` of `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 3,
        depthwise: bool = False,
        expand_ratio: float = 0.5,
        **layers: Any,
    ) -> None:
        super().__init__()
        half = int(out_channels * expand_ratio)
        self.first_conv = ConvNormAct(in_channels, 2 * half, 1, **layers)
        self.blocks = nn.ModuleList(Bottleneck(half, depthwise, kernel_size=3, **layers) for _ in range(num_blocks))
        self.final_conv = ConvNormAct((2 + num_blocks) * half, out_channels, 1, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out H W``."""
        maps = list(self.first_conv(x).chunk(2, dim=1))
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return self.final_conv(torch.cat(maps, dim=1))
