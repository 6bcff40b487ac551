"""Convolutions with parallel branches that become one convolution for deployment, and the layers made of them.

RepVGG (Ding et al., CVPR 2021, arXiv:2101.03697) trains a 3x3 and a 1x1 convolution side by side, each with its norm;
without their norms' batch statistics, their sum is one 3x3 convolution (`fuse_convs`). RT-DETR (arXiv:2304.08069,
figure 4) puts such convolutions into a cross-stage-partial layer whose halves are added, `CSPRepLayer`::

    x --main 1x1--> RepConv x n --+
      |                          (+)--final 1x1-->
      +--short 1x1----------------+

D-FINE (arXiv:2410.13842) puts two of these into YOLOv9's aggregation of stages (arXiv:2402.13616), `RepELAN`::

    x --first 1x1-- first half -------------------------------------------+
          |                                                               concat --final 1x1-->
          +-------- second half --+--[CSPRep, 3x3]--+--[CSPRep, 3x3]--+---+
                                  +-----------------|-----------------|---+
                                                    +-----------------|---+

Reference code: RT-DETR ``rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py`` (``RepVggBlock``, ``CSPRepLayer``), D-FINE
``src/zoo/dfine/hybrid_encoder.py`` (``RepNCSPELAN4``, ``SCDown``).
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..checks import integer, positive_number
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, make_act, make_conv

Module = TypeVar("Module", bound=nn.Module)


class RepConv(nn.Module):
    """Sum of a 3x3 and a 1x1 convolution, each with its norm, then an activation; arguments as for `ConvNormAct`.

    State dict: ``conv1`` is the 3x3 convolution, ``conv2`` the 1x1 convolution, which `fuse_convs` adds to the first.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, 3, norm=norm, conv=conv)
        second = ConvNormAct(in_channels, out_channels, 1, norm=norm, conv=conv)
        self.conv2: ConvNormAct | None = second  # until `fuse_convs`
        self.act = make_act(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out H W``."""
        y = self.conv1(x)
        if self.conv2 is not None:
            y = y + self.conv2(x)
        if self.act is not None:
            y = self.act(y)
        return y


class CSPRepLayer(nn.Module):
    """CSP layer of `RepConv` whose two halves are added, not concatenated.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        num_blocks: number of `RepConv`.
        expansion: width of the two halves relative to ``out_channels``. Where both are equal, there is no final
            convolution.
        **layers: ``norm``, ``act`` and ``conv`` of `ConvNormAct`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int = 3, expansion: float = 1.0, **layers: Any
    ) -> None:
        super().__init__()
        integer("num_blocks", num_blocks, 0)
        hidden = max(int(out_channels * positive_number("expansion", expansion)), 1)
        self.main_conv = ConvNormAct(in_channels, hidden, 1, **layers)
        self.short_conv = ConvNormAct(in_channels, hidden, 1, **layers)
        self.blocks = nn.Sequential(*(RepConv(hidden, hidden, **layers) for _ in range(num_blocks)))
        self.final_conv = ConvNormAct(hidden, out_channels, 1, **layers) if hidden != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out H W``."""
        return self.final_conv(self.blocks(self.main_conv(x)) + self.short_conv(x))


class RepELAN(nn.Module):
    """Aggregation of two stages, each a `CSPRepLayer` and a 3x3 convolution (D-FINE's ``RepNCSPELAN4``).

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        first_channels: channels after the first convolution; even.
        stage_channels: channels of each stage.
        num_blocks: number of `RepConv` in each stage.
        **layers: ``norm``, ``act`` and ``conv`` of `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        first_channels: int,
        stage_channels: int,
        num_blocks: int = 3,
        **layers: Any,
    ) -> None:
        super().__init__()
        half = first_channels // 2

        def stage(channels: int) -> nn.Sequential:
            rep = CSPRepLayer(channels, stage_channels, num_blocks, **layers)
            return nn.Sequential(rep, ConvNormAct(stage_channels, stage_channels, 3, **layers))

        self.first_conv = ConvNormAct(in_channels, 2 * half, 1, **layers)
        self.stages = nn.ModuleList((stage(half), stage(stage_channels)))
        self.final_conv = ConvNormAct(2 * (half + stage_channels), out_channels, 1, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out H W``."""
        maps = list(self.first_conv(x).chunk(2, dim=1))
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return self.final_conv(torch.cat(maps, dim=1))


class SCDown(nn.Module):
    """Halve a map by a 1x1 convolution and a depthwise 3x3 convolution of stride 2, each with its norm.

    Source: YOLOv10 (Wang et al., NeurIPS 2024, arXiv:2405.14458, section 3.2), as in D-FINE.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str | NormFactory | None = "BN",
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        depthwise = partial(make_conv(conv), groups=out_channels)
        self.pointwise_conv = ConvNormAct(in_channels, out_channels, 1, norm=norm, conv=conv)
        self.depthwise_conv = ConvNormAct(out_channels, out_channels, 3, 2, norm=norm, conv=depthwise)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out ceil(H / 2) ceil(W / 2)``."""
        return self.depthwise_conv(self.pointwise_conv(x))


def fuse_convs(module: Module) -> Module:
    """Return a copy for deployment: batch norms become part of their convolutions, a `RepConv` one convolution.

    The copy computes the same up to rounding, with fewer operations. Its state dict has other keys, so load weights
    before. Other norms, and convolutions that are not plain ``nn.Conv2d``, stay as they are.

    Args:
        module: a neck, or any module with `ConvNormAct` inside, in evaluation mode.

    Raises:
        ValueError: a module in training mode, whose norms use the statistics of a batch.
    """
    if any(part.training for part in module.modules()):
        raise ValueError(f"{type(module).__name__} is in training mode; call its eval() before fuse_convs")
    fused = copy.deepcopy(module)
    parts = list(fused.modules())
    for part in parts:
        if isinstance(part, ConvNormAct):
            _fold_norm(part)
    for part in parts:
        if isinstance(part, RepConv):
            _add_branches(part)
    return fused


def _fold_norm(layer: ConvNormAct) -> None:
    norm = layer.norm
    if isinstance(norm, _BatchNorm) and norm.running_mean is not None and type(layer.conv) is nn.Conv2d:
        layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, norm), None


def _add_branches(layer: RepConv) -> None:
    branches = (layer.conv1, layer.conv2)
    if not all(branch and branch.norm is None and type(branch.conv) is nn.Conv2d for branch in branches):
        return
    conv1: nn.Conv2d
    conv1, conv2 = (branch.conv for branch in branches if branch)
    with torch.no_grad():
        conv1.weight += F.pad(conv2.weight, (1, 1, 1, 1))
        if conv1.bias is not None and conv2.bias is not None:
            conv1.bias += conv2.bias
    layer.conv2 = None
