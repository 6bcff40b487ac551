"""DetectoRSResNet: a ResNet whose stages read the maps of a pyramid, for the recursive pyramid `RFP`.

::

    image --7x7 /2--max-pool /2--> layer1 --> layer2 --> layer3 --> layer4
                                                ^          ^          ^
                                feedback[1] --1x1   [2] --1x1   [3] --1x1      added in a stage's first block, before
                                                                               its last ReLU

Sources: ResNet (He et al., CVPR 2016, arXiv:1512.03385); DetectoRS (Qiao et al., CVPR 2021, arXiv:2006.02334, section
3). Reference code: mmdet ``models/backbones/detectors_resnet.py``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import ascending, boolean, integer, integers, positive_int, positive_ints
from ..features import FeatureSpec
from ..layers import ConvFactory, NormFactory, check_layers, make_norm
from ..ops import checkpointing
from ..ops.pooling import max_pool2d
from ..ops.tracing import traced
from ..weights.input_channels import accept_color_images
from ..weights.layouts import LoadHook
from .atrous import AWSConv2d, SwitchableAtrousConv2d
from .base import Backbone, Part
from .build import register_backbone

STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


class FeedbackBottleneck(nn.Module):
    """Residual block of a 1x1, a 3x3 and a 1x1 convolution, which can add a map of feedback.

    Args:
        in_channels: channels of the input map.
        channels: channels between the convolutions; the output has four times as many.
        stride: step of the 3x3 convolution.
        feedback_channels: channels of the feedback; ``None`` for a block without.
        norm: norm after each convolution.
        conv: factory of the convolutions.
        middle_conv: factory of the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        feedback_channels: int | None,
        norm: str | NormFactory,
        conv: ConvFactory,
        middle_conv: ConvFactory,
    ) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = conv(in_channels, channels, 1, bias=False)
        self.bn1 = make_norm(norm, channels)
        self.conv2 = middle_conv(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = make_norm(norm, channels)
        self.conv3 = conv(channels, out_channels, 1, bias=False)
        self.bn3 = make_norm(norm, out_channels)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            shortcut = conv(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, make_norm(norm, out_channels) or nn.Identity())
        self.rfp_conv = None if feedback_channels is None else _Feedback(feedback_channels, out_channels, 1)

    def forward(self, x: Tensor, feedback: Tensor | None = None) -> Tensor:
        """Map ``B C H W`` to ``B 4*channels ceil(H / stride) ceil(W / stride)``, the size of ``feedback``."""
        out = F.relu(self.bn1(self.conv1(x)))  # type: ignore[misc]
        out = F.relu(self.bn2(self.conv2(out)))  # type: ignore[misc]
        out = self.bn3(self.conv3(out))  # type: ignore[misc]
        out = out + (x if self.downsample is None else self.downsample(x))
        if feedback is not None and self.rfp_conv is not None:
            out = out + self.rfp_conv(feedback)
        return F.relu(out)


class _Feedback(nn.Conv2d):
    """1x1 convolution that starts at zero; weights of a network without it leave it as it is."""

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for key, value in self.state_dict().items():
            state_dict.setdefault(f"{prefix}{key}", value)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _ClassifierHook(LoadHook):
    """Hook that drops the classifier of a published network."""

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in given.items() if not key.startswith("fc.")}


@register_backbone
class DetectoRSResNet(Backbone):
    """ResNet-50, 101 or 152 with DetectoRS's options: feedback, standardized weights, switchable dilation.

    Args:
        depth: 50, 101 or 152.
        out_indices: stages to return, 0 for ``layer1`` (stride 4) to 3 for ``layer4`` (stride 32).
        feedback_channels: channels of the maps that `rfp_forward` reads, in the stages after the first; ``None`` for a
            network without feedback, such as the one before an `RFP`.
        output_image: return the image as the first map, which `RFP` reads.
        weight_standardization: standardize the weights of all convolutions (mmdet's ``ConvAWS``), see `AWSConv2d`.
        switchable_stages: stages whose 3x3 convolutions are `SwitchableAtrousConv2d` (``(1, 2, 3)`` in DetectoRS).
        base_channels: channels of the first stage's 3x3 convolutions; 64 in all published networks.
        norm: norm after each convolution.
        norm_eval: keep all batch norms in evaluation mode during training.
        in_chans, checkpoint, frozen_stages, gradient_checkpointing: see `Backbone`.

    State dict: the names of torchvision, timm and mmdet, whose ResNets load; ``rfp_conv`` is mmdet's. Layers that a
    published network lacks keep their initial weights, with which they change nothing.

    Raises:
        ValueError: an argument outside these values, or a checkpoint of another architecture.
    """

    def __init__(
        self,
        depth: int = 50,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        feedback_channels: int | None = None,
        output_image: bool = False,
        weight_standardization: bool = False,
        switchable_stages: Sequence[int] = (),
        base_channels: int = 64,
        norm: str | NormFactory = "BN",
        norm_eval: bool = False,
        in_chans: int = 3,
        checkpoint: str | os.PathLike[str] | None = None,
        frozen_stages: int = -1,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if integer("depth", depth) not in STAGE_BLOCKS:
            raise ValueError(f"depth={depth!r} must be one of {sorted(STAGE_BLOCKS)}")
        positive_ints(base_channels=base_channels, in_chans=in_chans)
        check_layers(norm=norm)
        if norm is None or norm == "":
            raise TypeError(f"norm={norm!r} must be a name or a factory: a ResNet needs its norms")
        self.out_indices = ascending("out_indices", out_indices, 4, "among the stages (0..3)")
        stages = integers("switchable_stages", switchable_stages, 0)
        if stages:
            ascending("switchable_stages", stages, 4, "among the stages (0..3)")
        if feedback_channels is not None:
            positive_int("feedback_channels", feedback_channels)
        self.feedback_channels, self.in_chans = feedback_channels, in_chans
        self.output_image = boolean("output_image", output_image)
        self.norm_eval = boolean("norm_eval", norm_eval)
        self.gradient_checkpointing = boolean("gradient_checkpointing", gradient_checkpointing)
        conv: ConvFactory = AWSConv2d if boolean("weight_standardization", weight_standardization) else nn.Conv2d

        self.conv1 = conv(in_chans, base_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm, base_channels)
        width = base_channels
        for stage, number in enumerate(STAGE_BLOCKS[depth]):
            middle: ConvFactory = SwitchableAtrousConv2d if stage in stages else conv
            block = partial(
                FeedbackBottleneck, channels=base_channels << stage, norm=norm, conv=conv, middle_conv=middle
            )
            feedback = feedback_channels if stage else None
            first = block(width, stride=2 if stage else 1, feedback_channels=feedback)
            width = EXPANSION * base_channels << stage
            others = [block(width, stride=1, feedback_channels=None) for _ in range(number - 1)]
            self.add_module(f"layer{stage + 1}", nn.ModuleList([first, *others]))
        specs = [FeatureSpec(EXPANSION * base_channels << stage, 4 << stage) for stage in self.out_indices]
        self.feature_specs = (*([FeatureSpec(in_chans, 1)] if output_image else []), *specs)
        self._last = self.out_indices[-1]
        self.remove_stages()
        self._register_load_state_dict_pre_hook(_ClassifierHook(), with_module=True)
        accept_color_images(self, ["conv1.weight"], in_chans)
        self.load_and_freeze(frozen_stages, checkpoint)

    def remove_stages(self) -> None:
        """Remove the stages after the last one that is read."""
        for stage in range(self._last + 1, 4):
            if hasattr(self, f"layer{stage + 1}"):
                delattr(self, f"layer{stage + 1}")

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the stages after the last one of the maps ``kept``."""
        stages = [self.out_indices[position - self.output_image] for position in kept if position >= self.output_image]
        self._last = max(stages, default=0)
        self.remove_stages()

    def stages(self) -> list[Any]:
        """Return the blocks of each stage that is computed."""
        return [getattr(self, f"layer{stage + 1}") for stage in range(self._last + 1)]

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the stem's layers, then each stage's."""
        return [[part for part in (self.conv1, self.bn1) if part is not None], *([stage] for stage in self.stages())]

    def train(self, mode: bool = True) -> DetectoRSResNet:
        """Switch mode; with ``norm_eval``, batch norms stay in evaluation mode."""
        super().train(mode)
        for layer in self.modules() if self.norm_eval else ():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one map per entry of ``feature_specs``."""
        self.check_image(x)
        maps = self._maps(x, ())
        return self.complete([x, *maps] if self.output_image else maps)

    def rfp_forward(self, x: Tensor, feedback: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map images and ``feedback``, one map per stage at its size, whose first one is not read, to the maps.

        Raises:
            ValueError: feedback of another size; a map has ``ceil(side / stride)`` cells per side of the image.
        """
        if not traced():
            for stage, fed in enumerate(feedback[1:], 1):
                cells = tuple(-(-side // (4 << stage)) for side in x.shape[-2:])
                if fed.shape[-2:] != cells:
                    raise ValueError(
                        f"feedback for stage {stage} has {tuple(fed.shape[-2:])} cells, but an image of "
                        f"{tuple(x.shape[-2:])} has {cells} at stride {4 << stage}; build the backbone before RFP with "
                        "these strides and maps that round up, or pad images to a multiple of the last stride"
                    )
        return tuple(self._maps(x, feedback))

    def _maps(self, x: Tensor, feedback: Sequence[Tensor]) -> list[Tensor]:
        x = max_pool2d(F.relu(self.bn1(self.conv1(x))), (3, 3), (2, 2), (1, 1))  # type: ignore[misc]
        maps = []
        for stage, blocks in enumerate(self.stages()):
            for number, block in enumerate(blocks):
                added = feedback[stage] if stage and not number and feedback else None
                x = checkpointing.run(block, x, added, checkpointed=self.gradient_checkpointing)
            if stage in self.out_indices:
                maps.append(x)
        return maps
