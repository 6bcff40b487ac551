"""Small timm networks of several families, and weights that show a missed or misplaced key."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# name, number of feature maps: "same" padding, grouped convolutions, four maps instead of five
FAMILIES = [
    ("resnet18", 5),
    ("mobilenetv2_100", 5),
    ("tf_efficientnet_lite0", 5),
    ("regnetx_002", 5),
    ("convnext_atto", 4),
    ("mobilenetv3_small_050", 5),
]


def randomize(module: nn.Module) -> nn.Module:
    """Randomize the statistics and affine parameters of batch norms, so that each key changes the output."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) or hasattr(layer, "running_var"):
            layer.running_mean.normal_(std=0.1), layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5), layer.bias.data.normal_(std=0.1)
    return module


def images(channels: int = 3, size: tuple[int, int] = (65, 50), dtype: torch.dtype = torch.float32) -> Tensor:
    """One random image of an odd size."""
    return torch.randn(1, channels, *size, dtype=dtype)


def frozen_parameters(backbone: nn.Module) -> set[str]:
    """Names of the parameters without gradients."""
    return {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
