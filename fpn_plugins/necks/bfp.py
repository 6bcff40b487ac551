"""BFP, the balanced feature pyramid: Libra R-CNN (Pang et al., CVPR 2019, arXiv:1904.02701, section 3.2).

::

    p2 --max-pool--+                    +--nearest--(+ p2)--> out
    p3 --max-pool--+                    +--nearest--(+ p3)--> out
    p4 ------------+--mean--> refine ---+-----------(+ p4)--> out     gathered at p4's size
    p5 --nearest---+                    +--max-pool-(+ p5)--> out
    p6 --nearest---+                    +--max-pool-(+ p6)--> out

It takes the maps of another neck and gives maps of the same shapes. Reference code: mmdet ``models/necks/bfp.py`` and,
for the non-local block (Wang et al., arXiv:1711.07971, embedded Gaussian), mmcv ``cnn/bricks/non_local.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..features import FeatureSpec, check_channels, check_specs
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, init_convs
from ..ops import checkpointing
from ..ops.pooling import max_pool2d
from ..ops.tracing import traced
from ..weights import accept_layouts
from ..weights.maps import bfp

REFINES = ("conv", "non_local")


class NonLocal2d(nn.Module):
    """Non-local block over the positions of a map, embedded Gaussian, added to its input.

    ``softmax(theta(x)^T phi(x)) g(x)``, not scaled by the square root of the width (mmcv's ``use_scale=False``), by the
    fused kernel, which does not hold the (H W) x (H W) matrix.

    Args:
        channels: channels of the map, and of the embeddings.
        norm: norm of the output convolution, see `make_norm`.
        conv: factory of the convolutions; ``None`` is ``nn.Conv2d``.
    """

    def __init__(self, channels: int, norm: str | NormFactory | None = None, conv: ConvFactory | None = None) -> None:
        super().__init__()
        self.g = ConvNormAct(channels, channels, 1, conv=conv)
        self.conv_out = ConvNormAct(channels, channels, 1, norm=norm, conv=conv)
        self.theta = ConvNormAct(channels, channels, 1, conv=conv)
        self.phi = ConvNormAct(channels, channels, 1, conv=conv)

    def reset_parameters(self) -> None:
        """mmcv's initialisation: small embeddings, and an output of zero, so that the block starts as the identity."""
        for embed in (self.g, self.theta, self.phi):
            _fill(embed.conv, std=0.01)
        _fill(self.conv_out.conv if self.conv_out.norm is None else self.conv_out.norm, std=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        value, query, key = (
            embed(x).flatten(2).transpose(1, 2)[:, None] for embed in (self.g, self.theta, self.phi)
        )  # B 1 HW C: the fused kernels need an axis of heads
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.conv_out(mixed[:, 0].transpose(1, 2).reshape(x.shape))


def _fill(layer: Any, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


class BFP(nn.Module):
    """Balanced feature pyramid: every level gets the refined mean of all.

    Args:
        in_channels: channels of each input map, all the same.
        out_channels: must equal them; ``None`` takes them.
        refine_index: position of the level at whose size the maps are gathered (Libra R-CNN: 2).
        refine: ``None``, ``"conv"`` (3x3) or ``"non_local"``.
        norm: norm of the refining convolution.
        act: activation of the 3x3 refining convolution; ``"relu"`` as in mmdet.
        conv: factory of the convolutions.
        gradient_checkpointing: keep only the inputs for the backward pass, and compute the maps between them and the
            outputs again.

    ``torch.export``, and ONNX export with it, makes a graph of it for one size only: the sizes of the blocks that are
    pooled become constants.

    The 3x3 convolution starts from Kaiming's normal, the non-local block as the identity, as in mmdet, whose
    ``init_cfg`` these two overwrite.

    State dict: ``refine.conv.*``, ``refine.norm.*``, or ``refine.{g,theta,phi,conv_out}.conv.*``. mmdet's layout loads
    as it is.

    Raises:
        ValueError: channels that differ, ``refine_index`` out of range, unknown ``refine``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | None = None,
        refine_index: int = 2,
        refine: str | None = "non_local",
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.in_channels = tuple(in_channels)
        self.out_channels = _check_same(self.in_channels, out_channels)
        if not 0 <= refine_index < len(self.in_channels):
            raise ValueError(f"refine_index={refine_index} must be a position among the {len(in_channels)} inputs")
        if refine is not None and refine not in REFINES:
            raise ValueError(f"refine={refine!r} is unknown, choose one of {REFINES} or None")
        self.refine_index = refine_index
        self.refine: nn.Module = nn.Identity()
        if refine == "conv":
            self.refine = ConvNormAct(self.out_channels, self.out_channels, 3, norm=norm, act=act, conv=conv)
        elif refine == "non_local":
            self.refine = NonLocal2d(self.out_channels, norm=norm, conv=conv)
        self.init_refine()
        accept_layouts(self, (bfp.mmdet(),))

    def init_refine(self) -> None:
        """Draw the weights of the refining part anew."""
        if isinstance(self.refine, NonLocal2d):
            self.refine.reset_parameters()
        else:
            init_convs(self.refine, "kaiming_normal")

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Those of the inputs.

        Raises:
            ValueError: the channels are not the ones that this neck was built for; names both lists.
        """
        check_specs(in_specs, self.in_channels, type(self).__name__)
        return tuple(in_specs)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Balance the levels: maps ``B C H W`` of any sizes, high to low resolution, to maps of the same shapes.

        Raises:
            ValueError: another number of maps or channels than the neck was built for.
        """
        check_channels(inputs, self.in_channels, type(self).__name__)
        return checkpointing.run(self.balance, inputs, checkpointed=self.gradient_checkpointing)

    def balance(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What `forward` computes."""
        size = inputs[self.refine_index].shape[-2:]
        gathered = [self._resize(x, size, down=index < self.refine_index) for index, x in enumerate(inputs)]
        balanced = self.refine(sum(gathered[1:], gathered[0]) / len(gathered))
        return tuple(
            self._resize(balanced, x.shape[-2:], down=index >= self.refine_index) + x for index, x in enumerate(inputs)
        )

    @staticmethod
    def _resize(x: Tensor, size: Sequence[int], down: bool) -> Tensor:
        """Adaptive max-pooling to a smaller map, nearest to a larger one."""
        size = (int(size[0]), int(size[1]))
        if not down:
            return F.interpolate(x, size=size, mode="nearest")
        height, width = x.shape[-2:]
        if traced() or height % size[0] or width % size[1]:
            return F.adaptive_max_pool2d(x, size)
        blocks = height // size[0], width // size[1]
        return max_pool2d(x, blocks, blocks)


def _check_same(in_channels: Sequence[int], out_channels: int | None) -> int:
    if not in_channels or len(set(in_channels)) > 1 or (out_channels or in_channels[0]) != in_channels[0]:
        raise ValueError(
            f"in_channels={list(in_channels)}, out_channels={out_channels}: BFP keeps the channels, which have to be "
            "the same for all maps; put it behind another neck"
        )
    return int(in_channels[0])
