"""CSP-PAFPN, the neck of YOLOX: Exceeding YOLO Series in 2021 (Ge et al., arXiv:2107.08430, section 2.1), and RTMDet's.

::

    c5 --1x1--+------------> m5 ---concat--CSP--1x1--> p5
              | x2                    ^ 3x3, stride 2
    c4 --concat--CSP--1x1--+-> m4 -concat--CSP--1x1--> p4
                           | x2       ^ 3x3, stride 2
    c3 -------------concat--CSP-------+--------1x1---> p3

    top-down                       bottom-up

PANet's two paths (arXiv:1803.01534) with concatenation instead of sums, and CSP layers instead of 3x3 convolutions
(YOLOv4, arXiv:2004.10934). RTMDet (Lyu et al., arXiv:2212.07784) has larger kernels in these layers and 3x3 output
convolutions; LW-DETR, RT-DETR and D-FINE have other layers. Deliberate difference: mmdet doubles the resolution and
fails if the finer map is not exactly twice as large; this class resizes the coarser map to the finer one's size, and
crops an extra row or column on the way back (where a backbone stage rounded down).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..checks import boolean, integer, one_of, positive_number
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..upsampling import UpsampleMode, check_upsample, make_upsample
from ..weights import accept_layouts
from ..weights.maps import csp_pafpn
from .card import C3_TO_C5, NeckCard
from .concat_paths import ConcatPaths
from .csp import C2f, CSPLayer, CSPNeXtBlock, make_conv3x3
from .rep import CSPRepLayer, RepELAN

YOLOX_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


def _rep_csp(channels: int, out_channels: int, num_blocks: int, ratio: float, **layers: Any) -> nn.Module:
    return CSPRepLayer(channels, out_channels, num_blocks, ratio, **layers)


def _rep_elan(channels: int, out_channels: int, num_blocks: int, ratio: float, **layers: Any) -> nn.Module:
    width = int(out_channels * ratio)
    return RepELAN(channels, out_channels, 2 * width, width, num_blocks, **layers)


# layers after the concatenations by name; the first three also take `depthwise`
BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "csp": CSPLayer,
    "cspnext": partial(CSPLayer, block=CSPNeXtBlock),
    "c2f": C2f,
    "rep_csp": _rep_csp,
    "elan": _rep_elan,
}
WITHOUT_DEPTHWISE = ("rep_csp", "elan")


class CSPPAFPN(ConcatPaths):
    """Top-down and bottom-up path at the backbone's channels; each step is a concatenation and a CSP layer.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`.
        num_blocks: bottlenecks in each CSP layer (YOLOX-s 1, -m 2, -l 3).
        depthwise: whether 3x3 convolutions are depthwise separable (YOLOX-nano).
        upsample_mode: ``"nearest"`` (YOLOX) or another, see `make_upsample`.
        norm: norm after each convolution, see `make_norm`; YOLOX's is batch norm with eps 1e-3 and momentum 0.03.
        act: activation after each convolution.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; ``None`` for PyTorch's own, which is YOLOX's: Kaiming uniform with a = sqrt(5).
        gradient_checkpointing: recompute the maps inside the CSP layers in backward instead of keeping them.
        block: layer after each concatenation: ``"csp"`` (YOLOX), ``"cspnext"`` (RTMDet: a 3x3 and a depthwise separable
            5x5 convolution per block), ``"c2f"`` (LW-DETR: reads the map after each block, as ELAN), ``"rep_csp"``
            (RT-DETR) or ``"elan"`` (D-FINE), whose branches `fuse_convs` merges for deployment.
        expand_ratio: width of the branches inside these layers relative to the output of the layer.
        output_kernel_size: side of the output convolutions: 1 (YOLOX) or 3 (RTMDet; depthwise separable if
            ``depthwise``).

    State dict: see `fpn_plugins.weights.maps.csp_pafpn`. The layouts of mmdet's ``YOLOXPAFPN`` and ``CSPNeXtPAFPN``
    load unchanged.

    Raises:
        ValueError: an argument outside the values above.
    """

    card = NeckCard(
        idea="PAFPN with concatenations instead of sums, and CSP layers instead of single convolutions.",
        use_when="with YOLOX heads and narrow backbones (CSPDarknet): it keeps each level at the backbone's width.",
        caveats="It works at the backbone's channels: on a ResNet's 512 to 2048 it is the largest neck here. It has no "
        "P6 and P7.",
        paper="Zheng Ge, Songtao Liu, Feng Wang, Zeming Li, Jian Sun: YOLOX: Exceeding YOLO Series in 2021. arXiv "
        "2021, arXiv:2107.08430",
        reference="mmdet `models/necks/yolox_pafpn.py`",
        topology="""
               backbone | top-down         | bottom-up        | output
            5: C5       | M5 (1×1) < C5    | N5 (CSP) < M5 N4 | P5 < 1×1: N5
            4: C4       | M4 (CSP) < C4 M5 | N4 (CSP) < M4 N3 | P4 < 1×1: N4
            3: C3       | M3 (CSP) < C3 M4 | N3 < M3          | P3 < 1×1: N3""",
        results=("box AP 40.5: YOLOX-s, CSPDarknet, 300 epochs (mmdet model zoo)",),
        in_specs=C3_TO_C5,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_blocks: int = 3,
        depthwise: bool = False,
        in_indices: Sequence[int] | None = None,
        upsample_mode: UpsampleMode = "nearest",
        norm: str | NormFactory | None = YOLOX_NORM,
        act: str | ActFactory | None = "silu",
        conv: ConvFactory | None = None,
        init: str | None = None,
        gradient_checkpointing: bool = False,
        block: str = "csp",
        expand_ratio: float = 0.5,
        output_kernel_size: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        used = self.used_channels
        check_layers(norm=norm, act=act, conv=conv, init=init)
        check_upsample(upsample_mode, out_channels)
        boolean("depthwise", depthwise)
        layers: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        join = _make_block(used, block, num_blocks, depthwise, expand_ratio, layers)
        output_conv = _make_output(output_kernel_size, depthwise, layers)

        steps = list(pairwise(used))  # (finer, coarser)
        down = steps[::-1]
        self.reduce_convs = nn.ModuleList(ConvNormAct(coarse, fine, 1, **layers) for fine, coarse in down)
        self.top_down_blocks = nn.ModuleList(join(2 * fine, fine) for fine, _ in down)
        self.downsample_convs = nn.ModuleList(
            make_conv3x3(fine, fine, stride=2, depthwise=depthwise, **layers) for fine, _ in steps
        )
        self.bottom_up_blocks = nn.ModuleList(join(2 * fine, coarse) for fine, coarse in steps)
        self.output_convs = nn.ModuleList(output_conv(channels, out_channels) for channels in used)
        init_convs(self, init)
        # built last: learned upsampling has its own initialization
        self.upsamples = nn.ModuleList(make_upsample(upsample_mode, fine) for fine, _ in down)
        level_prefixes = ("reduce_convs.", "downsample_convs.", "output_convs.")
        accept_layouts(self, (csp_pafpn.mmdet(),), level_prefixes)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        maps = self.bottom_up(self.top_down(inputs))
        return [conv(x) for conv, x in zip(self.output_convs, maps, strict=True)]


def _make_block(
    used: Sequence[int], block: str, num_blocks: int, depthwise: bool, ratio: float, layers: dict[str, Any]
) -> Callable[[int, int], nn.Module]:
    """Check the arguments of the layers after concatenations, and return their factory."""
    integer("num_blocks", num_blocks, 0)
    positive_number("expand_ratio", ratio)
    build = BLOCKS[one_of("block", block, BLOCKS)]
    if int(min(used) * ratio) < 1:
        least = "at least 2, because CSP layers halve them" if ratio == 0.5 else f"at least 1 / expand_ratio={ratio}"
        raise ValueError(f"in_channels={list(used)} must each be {least}")
    if block not in WITHOUT_DEPTHWISE:
        return lambda channels, out: build(channels, out, num_blocks, depthwise, ratio, **layers)
    if depthwise:
        raise ValueError(f"depthwise=True needs another block than {block!r}; choose one of {sorted(BLOCKS)[:3]}")
    return lambda channels, out: build(channels, out, num_blocks, ratio, **layers)


def _make_output(kernel_size: int, depthwise: bool, layers: dict[str, Any]) -> Callable[[int, int], nn.Module]:
    """Check the arguments of the output convolutions, and return their factory."""
    if integer("output_kernel_size", kernel_size) not in (1, 3):
        raise ValueError(f"output_kernel_size={kernel_size} must be 1 or 3")
    if kernel_size == 1:
        return lambda channels, out: ConvNormAct(channels, out, 1, **layers)
    return lambda channels, out: make_conv3x3(channels, out, depthwise=depthwise, **layers)
