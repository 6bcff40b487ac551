"""DilatedEncoder, the neck of YOLOF: You Only Look One-level Feature (Chen et al., CVPR 2021, arXiv:2103.09460).

::

    c5 --1x1, BN--3x3, BN--+--residual blocks of dilations 2, 4, 6, 8--> p5

    block: x --1x1--3x3, dilated--1x1--(+ x)      each with BN and ReLU

Blocks of growing dilation let one map cover objects of all sizes (paper, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..checks import integers, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, with_bias
from ..weights import accept_layouts
from ..weights.maps import dilated_encoder
from .base import ListNeck
from .card import NeckCard

DILATIONS = (2, 4, 6, 8)


class DilatedBottleneck(nn.Module):
    """Residual block: a convolution narrows the map, a dilated one mixes it, a third widens it again.

    Args:
        channels: channels of the map.
        mid_channels: channels of the dilated convolution.
        dilation: step between the cells that its kernel reads.
        norm, act, conv: see `ConvNormAct`.
    """

    def __init__(
        self,
        channels: int,
        mid_channels: int,
        dilation: int,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, mid_channels, 1, norm=norm, act=act, conv=conv)
        self.conv2 = ConvNormAct(mid_channels, mid_channels, 3, norm=norm, act=act, conv=conv, dilation=dilation)
        self.conv3 = ConvNormAct(mid_channels, channels, 1, norm=norm, act=act, conv=conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C H W``."""
        return x + self.conv3(self.conv2(self.conv1(x)))


class DilatedEncoder(ListNeck):
    """One map out of the last one, with a receptive field for objects of all sizes.

    Args:
        in_channels, in_indices: see `PyramidNeck`; only the last used map is read.
        out_channels: channels of the output.
        mid_channels: channels of the dilated convolutions.
        dilations: dilation of each residual block, in order.
        norm: norm after each convolution, see `make_norm`.
        act: activation after each convolution of the blocks, see `make_act`.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        gradient_checkpointing: keep only the input for backward, and recompute the maps between it and the output.

    The first two convolutions have a bias although a norm follows, and start from Xavier's distribution, the blocks
    from a normal one, as in mmdet.

    State dict: ``lateral_conv``, ``output_conv``, ``blocks.<i>.{conv1,conv2,conv3}``, each with ``conv.*`` and
    ``norm.*``. mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above.
    """

    card = NeckCard(
        idea="The last map alone, widened by residual blocks of growing dilation.",
        use_when="with YOLOF's head, as the fastest detector without a pyramid.",
        caveats="Small objects have to be found at stride 32. It needs YOLOF's uniform matching of anchors: one map "
        "has all anchors, and large objects would get most of them.",
        paper="Qiang Chen, Yingming Wang, Tong Yang, Xiangyu Zhang, Jian Cheng, Jian Sun: You Only Look One-level "
        "Feature. CVPR 2021, arXiv:2103.09460",
        reference="mmdet `models/necks/dilated_encoder.py`",
        topology="""
               backbone | projected         | output
            5: C5       | M5 (1×1, 3×3) < C5 | P5 (dilated blocks) < M5
            4: C4       |                   |
            3: C3       |                   |
            2: C2       |                   |""",
        results=("box AP 37.5: YOLOF R50, 12 epochs (mmdet model zoo)",),
        example_arguments={"out_channels": 32, "mid_channels": 8, "dilations": (2, 3)},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 512,
        mid_channels: int = 128,
        dilations: Sequence[int] = DILATIONS,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        self.read_indices = self.in_indices[-1:]
        positive_int("mid_channels", mid_channels)
        check_layers(norm=norm, act=act, conv=conv)
        biased = with_bias(conv)
        self.lateral_conv = ConvNormAct(self.used_channels[-1], out_channels, 1, norm=norm, conv=biased)
        self.output_conv = ConvNormAct(out_channels, out_channels, 3, norm=norm, conv=biased)
        self.blocks = nn.Sequential(
            *(
                DilatedBottleneck(out_channels, mid_channels, dilation, norm, act, conv)
                for dilation in integers("dilations", dilations, 1)
            )
        )
        self.reset_parameters()
        accept_layouts(self, (dilated_encoder.mmdet(),))

    def reset_parameters(self) -> None:
        """Draw the initial weights of the convolutions."""
        init_convs(self.lateral_conv, "caffe2_xavier")
        init_convs(self.output_conv, "caffe2_xavier")
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def out_strides(self, strides: list[int]) -> list[int]:
        """Return the stride of the last used map."""
        return strides[-1:]

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the output from the last of the used inputs; TorchScript compiles this method."""
        return [self.blocks(self.output_conv(self.lateral_conv(inputs[-1])))]
