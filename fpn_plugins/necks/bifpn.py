"""BiFPN: EfficientDet: Scalable and Efficient Object Detection (Tan et al., CVPR 2020, arXiv:1911.09070, section 3).

::

    p7 ---------------------(+)--> p7      (+)  weighted sum, activation, separable 3x3 convolution, norm
     |x2                     ^ pool        x2   nearest, to the finer map's size
    p6 ----(+)--------------(+)--> p6      pool 3x3 max-pool of stride 2
     |      |x2              ^ pool
    p5 ----(+)--------------(+)--> p5      Each level's input enters both of its sums: in the first repeat each time
     |      |x2              ^ pool        through a 1x1 convolution of its own (c3, c4, c5), in the others unchanged.
    p4 ----(+)--------------(+)--> p4
     |      |x2              ^ pool        p6 of the first repeat: 1x1 convolution of c5, norm, pool; p7: pool of p6
    p3 ----(+)---------------+---> p3

     top-down       bottom-up              x num_repeats

Deliberate differences from effdet: effdet is built for one image size, this class takes any; maps are weighted before
they are upsampled, and added without being stacked. The max-pool pads with minus infinity, as effdet and TensorFlow do;
the BiFPN in mmdet's ``projects/EfficientDet`` pads with 0, which differs at borders where all values are negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..checks import booleans, integer, one_of, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, with_bias
from ..ops import checkpointing
from ..weights import accept_layouts
from ..weights.maps import bifpn
from .base import PyramidNeck
from .bifpn_node import POOL_PADDINGS, BiFPNNode, PooledLevels, SeparableConv
from .card import C3_TO_C5, NeckCard
from .graph import GraphCell, Node
from .merge_graphs import GraphFactory, bifpn_graph, make_graph

FUSIONS = ("weighted", "softmax", "sum")

batch_norm: NormFactory = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # EfficientDet's


class BiFPN(PyramidNeck):
    """Bidirectional feature pyramid with learned edge weights, repeated.

    Args:
        in_channels, in_indices: see `PyramidNeck`; ``(1, 2, 3)`` of C2..C5 gives P3..P7.
        out_channels: channels of every output map (EfficientDet-D0: 64).
        num_extra_levels: number of levels after the last used input, by max-pooling; sizes are rounded up.
        num_repeats: number of times the graph runs, each with its own weights (D0: 3).
        fusion: ``"weighted"``: fast normalized, ``relu(w) / (sum + 1e-4)`` (effdet's ``bifpn_fa``); ``"softmax"``
            (``bifpn_attn``); ``"sum"``: no weights (``bifpn_sum``; D6, D7 and the lite models).
        norm: norm after each convolution, see `make_norm`; the default is BatchNorm with EfficientDet's eps 1e-3 and
            momentum 0.01, while ``"BN"`` has PyTorch's.
        act: activation before each separable convolution; none follows it.
        conv: factory of every convolution, called with ``groups`` as well; ``None`` for ``nn.Conv2d``.
        separable_conv: whether each node has a depthwise and a 1x1 convolution instead of a dense 3x3 one.
        bias_before_norm: whether convolutions before a norm have a bias, as in weights ported from TensorFlow (effdet's
            ``redundant_bias``).
        graph: merges of one repeat: ``"bifpn"``, ``"pan"`` or ``"quad"`` (effdet's ``bifpn_*``, ``pan_*`` and
            ``qufpn_*``), or a function ``num_levels -> Graph``; see ``merge_graphs.py``. A node whose ``op`` is one of
            the fusions other than ``"sum"`` has that fusion.
        pool_padding: ``"same"`` or ``"symmetric"`` (effdet's ``pad_type`` ``'same'`` and ``''``), see `pool_to_half`.
        init: ``"xavier_uniform"`` (effdet), otherwise see `init_convs`.
        gradient_checkpointing: keep only the maps between the repeats for backward and recompute the others.

    Inputs with ``out_channels`` channels get no 1x1 convolution, as in effdet.

    State dict: see ``weights/maps/bifpn.py``. effdet's layout loads unchanged; one that fits only in part is a
    ``ValueError`` that lists the keys.

    Raises:
        ValueError: an argument outside the values above, or fewer than two levels.
    """

    card = NeckCard(
        idea="Top-down and bottom-up in one cell with learned edge weights and separable convolutions, repeated.",
        use_when="when MACs and parameters are scarce: mobile and edge devices, large images.",
        caveats="Few MACs are not few milliseconds: depthwise convolutions and many small maps leave a GPU idle. Its "
        "results come from 300 epochs with EfficientNets; do not expect them from 12 epochs with a ResNet.",
        paper="Mingxing Tan, Ruoming Pang, Quoc V. Le: EfficientDet: Scalable and Efficient Object Detection. CVPR "
        "2020, arXiv:1911.09070",
        reference="effdet 0.4.1 `effdet/efficientdet.py` and `config/fpn_config.py`, a port of google/automl's",
        topology=bifpn_graph(5),
        results=(
            "box AP 34.3: EfficientDet-D0, 300 epochs (the paper, as cited by mmdet's EfficientDet project)",
            "box AP 34.2: EfficientDet-D0, Google's weights (effdet)",
            "box AP 33.6: EfficientDet-D0, trained in PyTorch (effdet)",
            "box AP 34.4: EfficientDet-D0 (mmdet's EfficientDet project)",
        ),
        in_specs=C3_TO_C5,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 64,
        in_indices: Sequence[int] | None = None,
        num_extra_levels: int = 2,
        num_repeats: int = 3,
        fusion: str = "weighted",
        norm: str | NormFactory | None = batch_norm,
        act: str | ActFactory | None = "silu",
        conv: ConvFactory | None = None,
        separable_conv: bool = True,
        bias_before_norm: bool = False,
        pool_padding: str = "same",
        graph: str | GraphFactory = "bifpn",
        init: str | None = "xavier_uniform",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        self.num_extra_levels = integer("num_extra_levels", num_extra_levels)
        booleans(separable_conv=separable_conv, bias_before_norm=bias_before_norm)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        one_of("fusion", fusion, FUSIONS)
        one_of("pool_padding", pool_padding, POOL_PADDINGS)
        _check_levels(len(self.in_indices), num_extra_levels)
        positive_int("num_repeats", num_repeats)
        used = self.used_channels
        merges = make_graph(graph, len(used) + num_extra_levels)
        # for convolutions before a norm; depthwise ones never have a bias
        biased = with_bias(conv) if bias_before_norm else conv

        def lateral(channels: int) -> nn.Module | None:
            return None if channels == out_channels else ConvNormAct(channels, out_channels, 1, norm=norm, conv=biased)

        def output() -> nn.Module:
            if separable_conv:
                return SeparableConv(out_channels, norm=norm, conv=biased, depthwise=conv)
            return ConvNormAct(out_channels, out_channels, 3, norm=norm, conv=biased)

        def merge(node: Node, channels: Sequence[int]) -> nn.Module:
            laterals = {number: lateral(channels[number]) for number in node.inputs if number < len(channels)}
            steps = [merges.level_of(number) - node.level for number in node.inputs]
            kind = fusion if node.op == "sum" else one_of("op of a node of graph", node.op, FUSIONS)
            return BiFPNNode(node.inputs, steps, laterals, output(), kind, act, pool_padding)

        extra = num_extra_levels > 0
        self.extra_levels = PooledLevels(num_extra_levels, lateral(used[-1]), pool_padding) if extra else None
        # only the first repeat reads the backbone's maps
        widths: list[Sequence[int]] = [used, *([()] * (num_repeats - 1))]
        self.cells = nn.ModuleList(GraphCell(merges, [merge(node, w) for node in merges.nodes]) for w in widths)
        _init(self, init)
        accept_layouts(self, (bifpn.effdet(len(used), separable_conv),), level_prefixes=("cells.", "extra_levels."))

    def pyramid(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Compute the outputs; ``ValueError`` unless each map is half the previous one's size, rounded either way."""
        maps = inputs if self.extra_levels is None else [*inputs, *self.extra_levels(inputs[-1])]
        for cell in self.cells:
            maps = checkpointing.run(cell, maps, checkpointed=self.gradient_checkpointing)
        return maps


def _init(neck: BiFPN, init: str | None) -> None:
    """Run `init_convs`, but count one channel of fan-out in Glorot's bound for depthwise convolutions, as in effdet."""
    init_convs(neck, init)
    if init != "xavier_uniform":
        return
    for layer in neck.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            fan_out = layer.weight.shape[0] // layer.groups * layer.weight[0, 0].numel()
            limit = math.sqrt(6 / (layer.weight[0].numel() + fan_out))
            nn.init.uniform_(layer.weight, -limit, limit)


def _check_levels(num_inputs: int, num_extra_levels: int) -> None:
    if num_extra_levels < 0 or num_inputs + num_extra_levels < 2:
        raise ValueError(
            f"num_extra_levels={num_extra_levels} on {num_inputs} used inputs: a BiFPN merges at least 2 levels; "
            f"set num_extra_levels to {max(0, 2 - num_inputs)} or more"
        )
