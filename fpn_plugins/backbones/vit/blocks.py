"""Parts of Vision Transformers for detection; tokens stay on their grid, ``B H W C``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import probability
from ...layers import LayerNorm2d


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): in training, drop a branch for some images and scale it up for the others.

    ``rate`` is the probability of dropping the branch, in ``[0, 1)``; other rates raise ``ValueError``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = probability("drop_path_rate", rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B ...`` to the same shape, zero for some images of the batch."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *(1 for _ in x.shape[1:])).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        """Return the rate, which ``print(module)`` shows."""
        return f"{self.rate:g}"


class PatchEmbedding(nn.Module):
    """Embedding of non-overlapping patches as tokens; pixels after the last whole patch are ignored.

    Args:
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
        embed_dim: channels of a token.
        bias: whether the tokens have a bias.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``B in_chans H W`` to tokens ``B H/patch_size W/patch_size C``, rounded down."""
        # made contiguous once, because otherwise every norm copies (3 % of ViT-B's time at 512 x 512 on a CPU)
        return self.proj(x).permute(0, 2, 3, 1).contiguous()


class LayerScale(nn.Module):
    """Factor of each channel of a residual branch, ``initial`` at first (CaiT, arXiv:2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... dim`` to the same shape."""
        return x * self.gamma


def mlp(dim: int, hidden_dim: int, norm_eps: float | None = None, approximate: str = "none") -> nn.Sequential:
    """Build two linear layers with GELU between them, which map ``... dim`` to ``... dim``.

    Args:
        dim: channels of a token.
        hidden_dim: channels between the layers.
        norm_eps: epsilon of a norm before the second layer; ``None`` omits it.
        approximate: approximation of GELU, ``"none"`` or ``"tanh"``.
    """
    layers: dict[str, nn.Module] = {"fc1": nn.Linear(dim, hidden_dim), "act": nn.GELU(approximate)}
    if norm_eps is not None:
        layers["norm"] = nn.LayerNorm(hidden_dim, norm_eps)
    return nn.Sequential(OrderedDict({**layers, "fc2": nn.Linear(hidden_dim, dim)}))


class SwiGLU(nn.Module):
    """MLP with a gate, ``fc2(norm(silu(gate) * value))`` (arXiv:2002.05202).

    Args:
        dim: channels of a token.
        hidden_dim: channels of the gate and of the value.
        norm_eps: epsilon of the norm; ``None`` omits it.

    State dict: ``fc1.*``, whose first half of the rows is the gate's, ``norm.*``, ``fc2.*``.
    """

    def __init__(self, dim: int, hidden_dim: int, norm_eps: float | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden_dim)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(hidden_dim, norm_eps)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... dim`` to the same shape."""
        gate, value = self.fc1(x).chunk(2, -1)
        return self.fc2(self.norm(F.silu(gate) * value))


class ResidualBottleneck(nn.Module):
    """Residual 1x1, 3x3, 1x1 convolutions with norms; the branch starts at zero.

    ViTDet's convolutional propagation between windows (arXiv:2203.16527, section 3), used instead of global blocks.

    Args:
        dim: channels of the map; the 3x3 convolution has half as many.
        norm_eps: epsilon of the norms over channels.
    """

    def __init__(self, dim: int, norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim // 2, 1, bias=False)
        self.norm1 = LayerNorm2d(dim // 2, norm_eps)
        self.conv2 = nn.Conv2d(dim // 2, dim // 2, 3, padding=1, bias=False)
        self.norm2 = LayerNorm2d(dim // 2, norm_eps)
        self.conv3 = nn.Conv2d(dim // 2, dim, 1, bias=False)
        self.norm3 = LayerNorm2d(dim, norm_eps)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to the same shape."""
        out = F.gelu(self.norm1(self.conv1(x)))
        out = F.gelu(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


class EncoderBlock(nn.Module):
    """Pre-norm encoder block: attention and MLP, each with a norm before it and a shortcut around it.

    Args:
        dim: channels of a token.
        attention: self-attention, such as `Attention`; it gets the normalized tokens and the context of `forward`.
        feed_forward: MLP, such as `mlp` or `SwiGLU`.
        drop_path: probability of dropping a residual branch in training.
        norm_eps: epsilon of the norms.
        residual: convolutions on the map after the block, such as a `ResidualBottleneck`, or ``None``.
        layer_scale: initial value of a `LayerScale` of each branch; ``None`` omits it.

    State dict (names of ViT and Swin): ``norm1``, ``attn``, ``norm2``, ``mlp.fc1``, ``mlp.fc2``, ``residual``,
    ``ls1.gamma``, ``ls2.gamma``.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        feed_forward: nn.Module,
        drop_path: float,
        norm_eps: float,
        residual: nn.Module | None = None,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.attn = attention
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.mlp = feed_forward
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """Map tokens, ``B H W C`` or ``B N C``, to the same shape; ``context`` is passed to the attention."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), *context)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        if self.residual is not None:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x
