"""Convolutions of DetectoRS: standardized weights, and a switch between two rates of dilation.

Sources: DetectoRS (Qiao et al., CVPR 2021, arXiv:2006.02334, section 4); weight standardization is arXiv:1903.10520.
Reference code: mmcv ``cnn/bricks/conv_ws.py`` (``ConvAWS``) and ``ops/saconv.py`` (``SAC``), whose weights load as they
are. Deliberate difference: maps of one or two cells per side are padded by repetition, where mmcv's reflection fails.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.deformable import deform_conv2d

EPSILON = 1e-5


def _moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each output channel's weights, ``C_out 1 1 1``."""
    flat = weight.flatten(1)
    mean, variance = flat.mean(1), flat.var(1)
    return mean[:, None, None, None], (variance + EPSILON).sqrt()[:, None, None, None]


class AWSConv2d(nn.Conv2d):
    """Convolution whose weights are standardized, then scaled and shifted by buffers per output channel.

    Weights of a usual convolution load so that the result stays the same: the buffers are set to their moments.
    """

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("weight_gamma", torch.ones(self.out_channels, 1, 1, 1))
        self.register_buffer("weight_beta", torch.zeros(self.out_channels, 1, 1, 1))

    def standardized(self) -> Tensor:
        """Return the weights with which to convolve."""
        mean, deviation = _moments(self.weight)
        return self.weight_gamma * ((self.weight - mean) / deviation) + self.weight_beta

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to the shape that ``nn.Conv2d`` returns."""
        return self._conv_forward(x, self.standardized(), self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and f"{prefix}weight_gamma" not in state_dict:
            state_dict[f"{prefix}weight_beta"], state_dict[f"{prefix}weight_gamma"] = _moments(weight)
        super()._load_from_state_dict(state_dict, prefix, *args)


class SwitchableAtrousConv2d(AWSConv2d):
    """Convolution at two rates of dilation, 1 and 3 times the given one, mixed per cell by a learned switch.

    It starts as the convolution at the given rate.

    Args:
        deformable: whether offsets predicted from the map move the taps.
        *args, **kwargs: arguments of ``nn.Conv2d``.
    """

    def __init__(self, *args: Any, deformable: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        channels: int = self.in_channels
        stride: Any = self.stride
        self.switch = nn.Conv2d(channels, 1, 1, stride)
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.pre_context = nn.Conv2d(channels, channels, 1)
        self.post_context = nn.Conv2d(self.out_channels, self.out_channels, 1)
        self.offset_s = nn.Conv2d(channels, 18, 3, stride, 1) if deformable else None
        self.offset_l = nn.Conv2d(channels, 18, 3, stride, 1) if deformable else None
        for child in self.children():
            for parameter in child.parameters():
                nn.init.zeros_(parameter)
        nn.init.ones_(self.switch.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to the shape that ``nn.Conv2d`` returns."""
        x = x + self.pre_context(x.mean((-2, -1), keepdim=True))
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect" if min(x.shape[-2:]) > 2 else "replicate")
        smooth = F.avg_pool2d(padded, 5, stride=1)
        switch, weight = self.switch(smooth), self.standardized()
        small = self._at_rate(1, x, weight, self.offset_s, smooth)
        large = self._at_rate(3, x, weight + self.weight_diff, self.offset_l, smooth)
        mixed = switch * small + (1 - switch) * large
        return mixed + self.post_context(mixed.mean((-2, -1), keepdim=True))

    def _at_rate(self, rate: int, x: Tensor, weight: Tensor, offset: nn.Module | None, smooth: Tensor) -> Tensor:
        moved: Any = {"stride": self.stride}
        for key in ("padding", "dilation"):
            moved[key] = tuple(rate * cells for cells in getattr(self, key))
        if offset is None:
            return F.conv2d(x, weight, groups=self.groups, **moved)
        return deform_conv2d(x, offset(smooth), weight, **moved)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if f"{prefix}weight" in state_dict and f"{prefix}weight_diff" not in state_dict:  # of a usual convolution
            own = {key: value for key, value in self.state_dict().items() if not key.startswith("weight_")}
            own["weight_diff"] = self.weight_diff.detach()
            for key, value in own.items():
                state_dict.setdefault(f"{prefix}{key}", value)
        super()._load_from_state_dict(state_dict, prefix, *args)
