"""CSPNeXt-PAFPN, the neck of RTMDet: An Empirical Study of Designing Real-Time Object Detectors (arXiv:2212.07784).

The graph of `CSPPAFPN` with CSPNeXt blocks (section 3.1, figure 3) and 3x3 output convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .card import C3_TO_C5, NeckCard
from .csp_pafpn import CSPPAFPN


class CSPNeXtPAFPN(CSPPAFPN):
    """`CSPPAFPN` as RTMDet has it: CSPNeXt blocks and 3x3 output convolutions.

    Args:
        in_channels, out_channels, num_blocks, depthwise, in_indices, block, output_kernel_size: see `CSPPAFPN`.
        **arguments: the other arguments of `CSPPAFPN`.
    """

    card = NeckCard(
        idea="CSPPAFPN with larger kernels: a 3x3 and a depthwise 5x5 convolution per block, and 3x3 outputs.",
        use_when="with RTMDet's head; the depthwise 5x5 convolutions see farther at little cost in MACs.",
        caveats="As CSPPAFPN; depthwise convolutions need more time than their MACs suggest.",
        paper="Chengqi Lyu, Wenwei Zhang, Haian Huang, Yue Zhou, Yudong Wang, Yanyi Liu, Shilong Zhang, Kai Chen: "
        "RTMDet: An Empirical Study of Designing Real-Time Object Detectors. arXiv 2022, arXiv:2212.07784",
        reference="mmdet `models/necks/cspnext_pafpn.py`",
        topology="""
               backbone | top-down             | bottom-up            | output
            5: C5       | M5 (1×1) < C5        | N5 (CSPNeXt) < M5 N4 | P5 < 3×3: N5
            4: C4       | M4 (CSPNeXt) < C4 M5 | N4 (CSPNeXt) < M4 N3 | P4 < 3×3: N4
            3: C3       | M3 (CSPNeXt) < C3 M4 | N3 < M3              | P3 < 3×3: N3""",
        results=("box AP 44.5: RTMDet-s, CSPNeXt, 300 epochs (mmdet model zoo)",),
        in_specs=C3_TO_C5,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_blocks: int = 3,
        depthwise: bool = False,
        in_indices: Sequence[int] | None = None,
        block: str = "cspnext",
        output_kernel_size: int = 3,
        **arguments: Any,
    ) -> None:
        arguments |= {"block": block, "output_kernel_size": output_kernel_size}
        super().__init__(in_channels, out_channels, num_blocks, depthwise, in_indices, **arguments)
