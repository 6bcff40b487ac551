"""BFP, the balanced feature pyramid: Libra R-CNN (Pang et al., CVPR 2019, arXiv:1904.02701, section 3.2).

::

    p2 --max-pool--+                    +--nearest--(+ p2)--> out
    p3 --max-pool--+                    +--nearest--(+ p3)--> out
    p4 ------------+--mean--> refine ---+-----------(+ p4)--> out     gathered at p4's size
    p5 --nearest---+                    +--max-pool-(+ p5)--> out
    p6 --nearest---+                    +--max-pool-(+ p6)--> out

It takes the maps of another neck and returns maps of the same shapes. The non-local block is Wang et al.'s
(arXiv:1711.07971), embedded Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import boolean, integer, one_of, positive_int
from ..features import FeatureSpec, check_channels, check_in_channels, check_specs
from ..keywords import KeywordChecked
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..ops.distributed import watch_first_step
from ..ops.pooling import adaptive_max_pool2d
from ..ops.scripting import ListForm, scriptable_form
from ..weights import accept_layouts
from ..weights.maps import bfp
from .card import NeckCard

REFINES = ("conv", "non_local")


class NonLocal2d(nn.Module):
    """Non-local block (embedded Gaussian): a map plus its attention over all positions.

    ``softmax(theta(x)^T phi(x)) g(x)``, not scaled by the square root of the width (mmcv's ``use_scale=False``), with
    fused attention, which does not materialize the (H W) x (H W) matrix.

    Args:
        channels: channels of the map and the embeddings.
        norm: norm of the output convolution, see `make_norm`.
        conv: factory of the convolutions; ``None`` for ``nn.Conv2d``.
    """

    def __init__(self, channels: int, norm: str | NormFactory | None = None, conv: ConvFactory | None = None) -> None:
        super().__init__()
        self.g = ConvNormAct(channels, channels, 1, conv=conv)
        self.conv_out = ConvNormAct(channels, channels, 1, norm=norm, conv=conv)
        self.theta = ConvNormAct(channels, channels, 1, conv=conv)
        self.phi = ConvNormAct(channels, channels, 1, conv=conv)

    def reset_parameters(self) -> None:
        """Draw mmcv's initial weights: small embeddings and a zero output, so that the block starts as the identity."""
        for embed in (self.g, self.theta, self.phi):
            _fill(embed.conv, std=0.01)
        _fill(self.conv_out.conv if self.conv_out.norm is None else self.conv_out.norm, std=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        # B 1 HW C: fused attention needs an axis of heads
        value = self.g(x).flatten(2).transpose(1, 2)[:, None]
        query = self.theta(x).flatten(2).transpose(1, 2)[:, None]
        key = self.phi(x).flatten(2).transpose(1, 2)[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.conv_out(mixed[:, 0].transpose(1, 2).reshape(x.shape))


def _fill(layer: Any, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


class BFP(KeywordChecked, nn.Module):
    """Balanced feature pyramid: add the refined mean of all levels to each level.

    Args:
        in_channels: channels of each input map, all equal.
        out_channels: must equal ``in_channels[0]``; ``None`` takes it.
        refine_index: position of the level at whose size the maps are gathered (Libra R-CNN: 2).
        refine: ``None``, ``"conv"`` (3x3) or ``"non_local"``.
        norm: norm of the refining convolution.
        act: activation of the 3x3 refining convolution; ``"relu"`` as in mmdet.
        conv: factory of the convolutions.
        gradient_checkpointing: keep only the inputs for backward and recompute the maps between them and the outputs.

    The 3x3 convolution starts from Kaiming's normal distribution and the non-local block as the
    identity, as in mmdet, where these two override the neck's ``init_cfg``.

    State dict: ``refine.conv.*``, ``refine.norm.*``, or ``refine.{g,theta,phi,conv_out}.conv.*``. mmdet's layout loads
    unchanged.

    Raises:
        ValueError: channels that differ, ``refine_index`` out of range, or an unknown ``refine``.
    """

    card = NeckCard(
        idea="After another neck: all levels are averaged at one size, refined, and added back to each level.",
        use_when="as a cheap addition to an FPN that you already train, when levels should exchange information.",
        caveats="The published gain is that of Libra R-CNN as a whole, with balanced sampling and a balanced loss. The "
        "non-local block's cost grows with the square of the image's area.",
        paper="Jiangmiao Pang, Kai Chen, Jianping Shi, Huajun Feng, Wanli Ouyang, Dahua Lin: Libra R-CNN: Towards "
        "Balanced Learning for Object Detection. CVPR 2019, arXiv:1904.02701",
        reference="mmdet `models/necks/bfp.py`, mmcv `cnn/bricks/non_local.py`",
        topology="""
               neck    | mean at P4's size          | refine                     | output
            6: C6 (P6) |                            |                            | P6 (+P6) < R4
            5: C5 (P5) |                            |                            | P5 (+P5) < R4
            4: C4 (P4) | M4 (mean) < C2 C3 C4 C5 C6 | R4 (non-local or 3×3) < M4 | P4 (+P4) < R4
            3: C3 (P3) |                            |                            | P3 (+P3) < R4
            2: C2 (P2) |                            |                            | P2 (+P2) < R4""",
        results=("box AP 38.3 (FPN: 37.4): Libra Faster R-CNN R50, 12 epochs (mmdet model zoo)",),
        in_specs=tuple(FeatureSpec(256, 4 << k) for k in range(5)),
        follows="FPN",
        example_specs=tuple(FeatureSpec(32, 4 << k) for k in range(4)),
    )

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
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        self.in_channels = check_in_channels(in_channels)
        self.in_indices = tuple(range(len(self.in_channels)))
        self.out_channels = _check_same(self.in_channels, out_channels)
        check_layers(norm=norm, act=act, conv=conv)
        if not 0 <= integer("refine_index", refine_index) < len(self.in_channels):
            raise ValueError(f"refine_index={refine_index} must be a position among the {len(in_channels)} inputs")
        if refine is not None:
            one_of("refine", refine, REFINES, ", or None")
        self.refine_index = refine_index
        self.refine: nn.Module = nn.Identity()
        if refine == "conv":
            self.refine = ConvNormAct(self.out_channels, self.out_channels, 3, norm=norm, act=act, conv=conv)
        elif refine == "non_local":
            self.refine = NonLocal2d(self.out_channels, norm=norm, conv=conv)
        self.init_refine()
        accept_layouts(self, (bfp.mmdet(),))

    def init_refine(self) -> None:
        """Draw the initial weights of the refining part."""
        if isinstance(self.refine, NonLocal2d):
            self.refine.reset_parameters()
        else:
            init_convs(self.refine, "kaiming_normal")

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the specs of the inputs; see `Neck.out_specs`."""
        check_specs(in_specs, self.in_channels, type(self).__name__)
        return tuple(in_specs)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map levels ``B C H W`` of any sizes to balanced levels of the same shapes; see `Neck.forward`."""
        check_channels(inputs, self.in_channels, type(self).__name__)
        watch_first_step(self)
        return tuple(checkpointing.run(self.pyramid, list(inputs), checkpointed=self.gradient_checkpointing))

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that ``torch.jit.script`` compiles instead of this one."""
        return scriptable_form(self, ListForm)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs of `forward`, without its checks; TorchScript compiles this method."""
        middle = inputs[self.refine_index]
        gathered = [resize_like(x, middle, index < self.refine_index) for index, x in enumerate(inputs)]
        total = gathered[0]
        for x in gathered[1:]:
            total = total + x
        balanced = self.refine(total / len(gathered))
        return [resize_like(balanced, x, index >= self.refine_index) + x for index, x in enumerate(inputs)]


def resize_like(x: Tensor, other: Tensor, down: bool) -> Tensor:
    """Resize by adaptive max-pooling to the size of a smaller map, or by nearest interpolation to that of a larger one.

    Args:
        x: ``B C h w``.
        other: ``B C H W``.
        down: whether to pool.
    """
    size = (other.shape[-2], other.shape[-1])
    if not down:
        return F.interpolate(x, size=size, mode="nearest")
    return adaptive_max_pool2d(x, size)


def _check_same(in_channels: Sequence[int], out_channels: int | None) -> int:
    wanted = in_channels[0] if out_channels is None else positive_int("out_channels", out_channels)
    if set(in_channels) != {wanted}:
        raise ValueError(
            f"in_channels={list(in_channels)}, out_channels={out_channels}: BFP keeps the channels, which must be "
            "equal for all maps; put it after another neck"
        )
    return wanted
