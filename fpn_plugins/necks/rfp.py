"""RFP, the recursive feature pyramid: DetectoRS (Qiao et al., CVPR 2021, arXiv:2006.02334, section 3).

::

    image --backbone--> c2..c5 --FPN--> x
    image --backbone 2 (+ feedback)--> c2..c5 --FPN--> y     feedback: ASPP of x, added in the stages of backbone 2
    out = g y + (1 - g) x                                    g: sigmoid of a 1x1 convolution of y, per cell

    ASPP    ReLU of a 1x1, of two dilated 3x3 and of a 1x1 convolution of the map's mean, side by side

repeated ``num_steps - 1`` times, each with a backbone of its own and the same FPN, ASPP and gate. The neck reads the
image as its first map, of stride 1, which a backbone with ``output_image=True`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import build_backbone
from ..checks import boolean, integer, integers, positive_int, shown
from ..features import FeatureSpec, check_channels, check_in_channels, check_specs
from ..keywords import KeywordChecked
from ..ops import checkpointing
from ..ops.distributed import watch_first_step
from ..weights.layouts import redirect_keys
from ..weights.maps import rfp as tables
from .card import C2_TO_C5, EXAMPLE_SPECS, NeckCard
from .fpn import FPN

IMAGE = FeatureSpec(3, 1)
SMALL_BACKBONE = {"type": "DetectoRSResNet", "base_channels": 2, "out_indices": (0, 1, 2, 3), "feedback_channels": 16}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: convolutions of several dilations and of the map's mean, side by side.

    Args:
        in_channels: channels of the map.
        branch_channels: channels of each branch.
        dilations: dilation of each branch; 1 is a 1x1 convolution, others are 3x3. The last one, 1, reads the mean.
    """

    def __init__(self, in_channels: int, branch_channels: int, dilations: Sequence[int] = (1, 3, 6, 1)) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(
                in_channels, branch_channels, 1 if rate == 1 else 3, dilation=rate, padding=0 if rate == 1 else rate
            )
            for rate in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B branches*branch_channels H W``."""
        *spatial, pooled = self.convs
        mean = pooled(x.mean((-2, -1), keepdim=True)).relu()
        maps = [conv(x).relu() for conv in spatial]
        return torch.cat([*maps, mean.expand(-1, -1, x.shape[-2], x.shape[-1])], dim=1)


class RFP(KeywordChecked, nn.Module):
    """FPN whose maps go back into a second backbone, whose maps go through the FPN again.

    Args:
        in_channels: channels of the image, then those of each map of the backbone, high to low resolution.
        backbone: the backbone of a further step: a mapping ``{"type": name in BACKBONES, **arguments}``, or a function
            without arguments that builds it, once per step. It has a method ``rfp_forward(image, feedback)``, as
            `DetectoRSResNet`, with ``feedback_channels`` equal to the channels of the ASPP.
        out_channels: channels of every output map.
        num_steps: number of passes (paper: 2); 1 is an FPN.
        aspp_channels: channels of each of the ASPP's branches; with four branches, a quarter of the backbone's
            ``feedback_channels``.
        aspp_dilations: see `ASPP`.
        gradient_checkpointing: keep only the maps between the passes for backward, and recompute the others.
        fpn: further arguments of `FPN`, except ``in_indices``: all maps are used.

    The image and the maps can have any size. Each further step costs a backbone.

    State dict: ``fpn.*`` (see `FPN`), ``backbones.{k}.*``, ``aspp.convs.{j}.*``, ``gate.*``. mmdet's layout loads
    unchanged.

    Raises:
        ValueError: an argument outside these values, a backbone of other channels, or no image as the first map.
        TypeError: a ``backbone`` that is neither a mapping nor a function, or has no ``rfp_forward``.
    """

    card = NeckCard(
        idea="FPN twice: its maps go back into the stages of a second backbone, whose maps go through the FPN again.",
        use_when="when accuracy matters most and doubling the backbone is affordable.",
        caveats="It contains a backbone, which needs pre-trained weights, and the detector takes about twice the time. "
        "Only with backbones that take feedback (`DetectoRSResNet`).",
        paper="Siyuan Qiao, Liang-Chieh Chen, Alan Yuille: DetectoRS: Detecting Objects with Recursive Feature Pyramid "
        "and Switchable Atrous Convolution. CVPR 2021, arXiv:2006.02334",
        reference="mmdet `models/necks/rfp.py` and `models/backbones/detectors_resnet.py`",
        topology="""
               backbone | FPN                 | backbone 2      | FPN again           | output
            5: C5       | X5 < 1×1: C5        | D5 < ASPP: X5   | M5 < 1×1: D5        | P5 (gated) < M5 X5
            4: C4       | X4 (+) < 1×1: C4 X5 | D4 < ASPP: X4   | M4 (+) < 1×1: D4 M5 | P4 (gated) < M4 X4
            3: C3       | X3 (+) < 1×1: C3 X4 | D3 < ASPP: X3   | M3 (+) < 1×1: D3 M4 | P3 (gated) < M3 X3
            2: C2       | X2 (+) < 1×1: C2 X3 | D2 (from image) | M2 (+) < 1×1: D2 M3 | P2 (gated) < M2 X2""",
        results=("box AP 44.8 (FPN: 40.3): Cascade R-CNN R50, 12 epochs (mmdet model zoo)",),
        in_specs=(IMAGE, *C2_TO_C5),
        arguments={"backbone": {"type": "DetectoRSResNet", "feedback_channels": 256}},
        example_specs=(IMAGE, *(FeatureSpec(8 << k, 4 << k) for k in range(len(EXAMPLE_SPECS)))),
        example_arguments={"out_channels": 32, "aspp_channels": 4, "backbone": SMALL_BACKBONE},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        backbone: Mapping[str, Any] | Callable[[], nn.Module],
        out_channels: int = 256,
        num_steps: int = 2,
        aspp_channels: int = 64,
        aspp_dilations: Sequence[int] = (1, 3, 6, 1),
        gradient_checkpointing: bool = False,
        **fpn: Any,
    ) -> None:
        super().__init__()
        self.in_channels = check_in_channels(in_channels)
        if len(self.in_channels) < 3:
            raise ValueError(
                f"in_channels={list(in_channels)} must list the image's channels and those of two or more maps"
            )
        if fpn.pop("in_indices", None) is not None:
            raise ValueError("in_indices: RFP uses all maps, since each one feeds a stage back; leave it out")
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        dilations = integers("aspp_dilations", aspp_dilations, 1)
        if dilations[-1:] != (1,):
            raise ValueError(f"aspp_dilations={list(dilations)} must end with 1, the branch of the map's mean")
        positive_int("aspp_channels", aspp_channels)
        self.fpn = FPN(self.in_channels[1:], out_channels, **fpn)
        self.out_channels = self.fpn.out_channels
        self.in_indices = self.read_indices = tuple(range(len(self.in_channels)))
        steps = integer("num_steps", num_steps, 1) - 1
        feedback = len(dilations) * aspp_channels
        self.backbones = nn.ModuleList(self._built(backbone, feedback) for _ in range(steps))
        self.aspp = ASPP(out_channels, aspp_channels, dilations) if steps else None
        self.gate = nn.Conv2d(out_channels, 1, 1) if steps else None
        if self.gate is not None:
            self.reset_gate()
        redirect_keys(self, tables.mmdet())

    def reset_gate(self) -> None:
        """Start with the mean of both passes."""
        for parameter in () if self.gate is None else self.gate.parameters():
            nn.init.zeros_(parameter)

    def _built(self, backbone: Mapping[str, Any] | Callable[[], nn.Module], feedback: int) -> nn.Module:
        if isinstance(backbone, nn.Module) or not (isinstance(backbone, Mapping) or callable(backbone)):
            raise TypeError(
                f'backbone={shown(backbone)} must be a mapping such as {{"type": "DetectoRSResNet"}}, or a function '
                "that builds a backbone: each step has its own"
            )
        built: Any = build_backbone(backbone) if isinstance(backbone, Mapping) else backbone()
        if not isinstance(built, nn.Module) or not callable(getattr(built, "rfp_forward", None)):
            raise TypeError(f"backbone={shown(backbone)} has no rfp_forward(image, feedback); use DetectoRSResNet")
        specs, channels = getattr(built, "feature_specs", None), getattr(built, "feedback_channels", feedback)
        if channels != feedback or specs and [s.channels for s in specs if s.stride > 1] != [*self.in_channels[1:]]:
            raise ValueError(
                f"backbone={shown(backbone)} must return maps of {list(self.in_channels[1:])} channels and have "
                f"feedback_channels={feedback}, those of the ASPP"
            )
        return built

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the specs of the outputs; see `Neck.out_specs`.

        Raises:
            ValueError: also if the first map is not the image.
        """
        check_specs(in_specs, self.in_channels, type(self).__name__)
        if in_specs[0].stride != 1:
            raise ValueError(
                f"RFP reads the image as the first map, but that has stride {in_specs[0].stride}; build the backbone "
                "with output_image=True"
            )
        return self.fpn.out_specs(in_specs[1:])

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map the image ``B C H W`` and the backbone's maps to the pyramid; see `Neck.forward`."""
        check_channels(inputs, self.in_channels, type(self).__name__)
        watch_first_step(self)
        image, saved = inputs[0], self.gradient_checkpointing
        maps = checkpointing.run(self.fpn, list(inputs[1:]), checkpointed=saved)
        for number in range(len(self.backbones)):
            maps = checkpointing.run(self.step, number, image, maps, checkpointed=saved)
        return tuple(maps)

    def step(self, number: int, image: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Run one further pass over the image and the pyramid of the previous pass."""
        assert self.aspp is not None and self.gate is not None
        fed = [maps[0], *(self.aspp(x) for x in maps[1 : len(self.in_channels) - 1])]
        again = self.fpn(self.backbones[number].rfp_forward(image, fed))  # type: ignore[operator]
        gates = [self.gate(new).sigmoid() for new in again]
        return [gate * new + (1 - gate) * old for gate, new, old in zip(gates, again, maps, strict=True)]
