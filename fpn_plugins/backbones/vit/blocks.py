"""Parts of a plain Vision Transformer for detection; tokens stay on their grid, ``B H W C``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import probability
from ...layers import LayerNorm2d
from .attention import Attention


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a residual branch for some images and scale it up for the others.

    Deep Networks with Stochastic Depth (Huang et al., arXiv:1603.09382).

    Args:
        rate: probability of dropping the branch, in ``[0, 1)``.

    Raises:
        ValueError: a rate out of range.
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
        """Show the rate in ``print(module)``."""
        return f"{self.rate:g}"


class PatchEmbedding(nn.Module):
    """Tokens of non-overlapping patches; pixels after the last whole patch are ignored.

    Args:
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
        embed_dim: channels of a token.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``B in_chans H W`` to tokens ``B H/patch_size W/patch_size C``, rounded down."""
        # contiguous once here; otherwise every norm copies (3 % of ViT-B's time at 512 x 512 on a CPU)
        return self.proj(x).permute(0, 2, 3, 1).contiguous()


class MLP(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        dim: channels of a token.
        hidden_dim: channels between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... C`` to ``... C``."""
        return self.fc2(self.act(self.fc1(x)))


class ResidualBottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 with norms, added to their input; the branch starts at zero.

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


class ViTBlock(nn.Module):
    """A pre-norm encoder block with attention in windows or over the whole map.

    Args:
        dim: channels of a token.
        num_heads: heads of the attention; divides ``dim``.
        mlp_ratio: hidden channels of the MLP over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        window_size: side of the attention windows in tokens, see `Attention`; 0 attends over the whole map.
        rel_pos_size: grid that the tables of relative positions are made for, see `Attention`; ``None`` omits them.
        drop_path: probability of dropping a residual branch in training.
        residual: whether a `ResidualBottleneck` follows.
        norm_eps: epsilon of the norms.

    State dict (detectron2's names): ``norm1``, ``attn``, ``norm2``, ``mlp.fc1``, ``mlp.fc2``, ``residual``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        window_size: int = 0,
        rel_pos_size: tuple[int, int] | None = None,
        drop_path: float = 0.0,
        residual: bool = False,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.attn = Attention(dim, num_heads, qkv_bias, rel_pos_size, window_size)
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.residual = ResidualBottleneck(dim, norm_eps) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``B H W C`` to tokens of the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.residual is not None:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x
