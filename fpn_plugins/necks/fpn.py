"""FPN: Feature Pyramid Networks for Object Detection (Lin et al., CVPR 2017, arXiv:1612.03144, section 3).

::

    c5 /32 --1x1--> m5 ------------3x3--> p5 --> extra levels p6, p7
                    | x2
    c4 /16 --1x1-->(+)= m4 --------3x3--> p4
                    | x2
    c3 /8  --1x1-->(+)= m3 --------3x3--> p3
                    | x2
    c2 /4  --1x1-->(+)= m2 --------3x3--> p2

Reference code: detectron2 ``modeling/backbone/fpn.py``, mmdet ``models/necks/fpn.py``, torchvision
``ops/feature_pyramid_network.py``. All three are equal on sizes divisible by the last stride; on others detectron2
raises, while this class upsamples to the size of the finer map, as mmdet and torchvision do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, init_convs
from ..ops import checkpointing
from ..upsampling import UpsampleMode, make_upsample
from ..weights import accept_layouts
from ..weights.maps.fpn import FPNLayouts
from .base import PyramidNeck
from .extra_levels import ExtraLevels, as_extra_levels
from .scripting import list_form

FUSIONS = ("sum", "avg")


def fuse(lateral: Tensor, up: Tensor, fusion: str, in_place: bool = False) -> Tensor:
    """The paper's building block (figure 3), after the upsampling.

    Args:
        lateral: ``B C H W``, the finer map after its 1x1 convolution.
        up: ``B C H W``, the merged coarser map, upsampled.
        fusion: ``"sum"`` or ``"avg"`` (half the sum).
        in_place: add into ``lateral``; only where nothing else needs its old values.
    """
    merged = lateral.add_(up) if in_place else lateral + up
    if fusion == "avg":
        merged = merged.mul_(0.5) if in_place else merged * 0.5
    return merged


def _check_fusion(fusion: str) -> str:
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r} is unknown, choose one of {FUSIONS}")
    return fusion


class FPN(PyramidNeck):
    """Feature pyramid network over any number of backbone maps.

    Args:
        in_channels: channels of each input map, high to low resolution
            (``[s.channels for s in backbone.feature_specs]``).
        out_channels: channels of every output map (paper: 256).
        in_indices: which inputs the pyramid is built on, ascending, without gaps; ``None`` is all. ``(1, 2, 3)`` of
            C2..C5 gives P3..P5.
        extra_levels: levels after the last one, an `ExtraLevels` (or a mapping of its arguments); ``None`` is none.
        upsample_mode: ``"nearest"`` (paper), ``"bilinear"``, or learned: ``"deconv"``, ``"pixel_shuffle"``,
            ``"carafe"``; with arguments ``{"type": "carafe", "kernel_size": 3}``; or a function ``(x, size) -> x``. See
            `make_upsample`.
        fusion: ``"sum"`` (paper) or ``"avg"``.
        norm: norm after each convolution: ``None`` (paper), ``"BN"``, ``"GN"``, ``"LN"``, ``"SyncBN"`` or a factory.
        norm_on_lateral: whether the 1x1 convolutions have the norm too.
        act: activation after each convolution; ``None`` as in the paper.
        conv: factory of every convolution, ``None`` is ``nn.Conv2d``.
        init: ``"caffe2_xavier"`` (detectron2, torchvision), ``"xavier_uniform"`` (mmdet after ``init_weights``),
            ``"kaiming_normal"`` (mmdet before it), or ``None`` for PyTorch's own; see `init_convs`. Learned upsampling
            has one of its own.
        gradient_checkpointing: keep only the inputs for the backward pass, which the backbone keeps anyway, and compute
            the maps between them and the outputs again.

    State dict: ``lateral_convs.<i>``, ``output_convs.<i>``, ``extra_levels.convs.<k>``, each with ``conv.*`` and
    ``norm.*``, ``i`` counting from the highest resolution; ``upsamples.<j>``, ``j`` counting the steps of the top-down
    path. The layouts of mmdet, detectron2 and torchvision load as they are; one that fits only in part is a
    ``ValueError`` that lists the keys.

    ``torch.jit.script`` gives a module that takes and returns lists of maps, and does not check them.

    Raises:
        ValueError: an argument outside of the above.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        upsample_mode: UpsampleMode = "nearest",
        fusion: str = "sum",
        norm: str | NormFactory | None = None,
        norm_on_lateral: bool = True,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices)
        self.gradient_checkpointing = gradient_checkpointing
        self.fusion = _check_fusion(fusion)
        extra = as_extra_levels(extra_levels)
        self.num_extra_levels = extra.num_levels if extra else 0
        self._extra_laterals = extra is not None and extra.in_top_down
        used = self.used_channels
        num_merged = len(used) + (self.num_extra_levels if self._extra_laterals else 0)

        lateral_norm = norm if norm_on_lateral else None
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm=lateral_norm, act=act, conv=conv) for channels in used
        )
        self.output_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, norm=norm, act=act, conv=conv) for _ in range(num_merged)
        )
        self.extra_levels = extra.build(used[-1], out_channels, norm, act, conv) if extra else None
        # only a convolution or a norm of ours is known not to keep its result for the backward pass, and an extra
        # lateral is what the next one reads
        self._in_place = act is None and not callable(conv) and not callable(lateral_norm) and not self._extra_laterals
        init_convs(self, init)
        # built last, because learned ones have an initialisation of their own
        self.upsamples = nn.ModuleList(make_upsample(upsample_mode, out_channels) for _ in range(num_merged - 1))
        level_prefixes = ("lateral_convs.", "output_convs.", "extra_levels.", "upsamples.")
        accept_layouts(self, FPNLayouts(len(used), num_merged), level_prefixes)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            inputs: one map ``B C H W`` per entry of ``in_channels``, high to low resolution; any sizes in which each
                map is about half as large as the one before.

        Returns:
            One map ``B out_channels H W`` per used input, of its size, then the extra levels.

        Raises:
            ValueError: another number of maps or channels than the neck was built for.
        """
        used = self.used(inputs)
        return tuple(checkpointing.run(self.pyramid, used, checkpointed=self.gradient_checkpointing))

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in the place of this module."""
        return list_form(self)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """What `forward` computes, from the used inputs alone.

        Written for TorchScript, as are the methods that it calls: lists, and modules in the order of their list.
        """
        laterals = [conv(inputs[index]) for index, conv in enumerate(self.lateral_convs)]
        if self.extra_levels is not None and self._extra_laterals:
            laterals += self.extra_levels(inputs, laterals, [])
        merged = self.top_down(laterals)
        outputs = self.bottom_up([conv(merged[index]) for index, conv in enumerate(self.output_convs)])
        if self.extra_levels is not None and not self._extra_laterals:
            outputs += self.extra_levels(inputs, merged, outputs)
        return outputs

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Merge from the coarsest map down; takes and returns maps ``B out_channels H W``, high to low resolution."""
        merged = [laterals[-1]]
        for step, upsample in enumerate(self.upsamples):
            lateral = laterals[-2 - step]
            up = upsample(merged[-1], (lateral.shape[-2], lateral.shape[-1]))
            merged.append(fuse(lateral, up, self.fusion, self._in_place))
        return merged[::-1]

    def bottom_up(self, maps: list[Tensor]) -> list[Tensor]:
        """A second path over the output maps, high to low resolution, which an FPN does not have."""
        return maps


class FPNLevel(nn.Module):
    """One level of the pyramid on its own: lateral 1x1, merge with the level above, output 3x3 (paper, figure 3).

    For pyramids that are put together by hand. The arguments are those of `FPN`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        upsample_mode: UpsampleMode = "nearest",
        fusion: str = "sum",
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
    ) -> None:
        super().__init__()
        self.lateral_conv = ConvNormAct(in_channels, out_channels, 1, norm=norm, act=act, conv=conv)
        self.output_conv = ConvNormAct(out_channels, out_channels, 3, norm=norm, act=act, conv=conv)
        self.fusion = _check_fusion(fusion)
        init_convs(self, init)
        self.upsample = make_upsample(upsample_mode, out_channels)

    def forward(self, x: Tensor, top: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute one level.

        Args:
            x: the backbone's map, ``B in_channels H W``.
            top: merged map of the level above, ``B out_channels h w``; ``None`` for the coarsest level.

        Returns:
            The merged map (the next finer level's ``top``) and the output map, both ``B out_channels H W``.
        """
        merged = self.lateral_conv(x)
        if top is not None:
            up = self.upsample(top, (merged.shape[-2], merged.shape[-1]))
            merged = fuse(merged, up, self.fusion)
        return merged, self.output_conv(merged)
