"""FPG: Feature Pyramid Grids (Chen et al., arXiv:2004.03580, section 3).

::

    p6 ----o----o----o----o----o--3x3--> p6     o  sum of up to six transitions, each of its own weights:
           |    |    |    |    |                   same_up         previous level, same path (bottom-up path)
    p5 ---------o----o----o----o--3x3--> p5        same_down       next level, same path (top-down path)
                |    |    |    |                   across_lateral  same level, previous path
    p4 --------------o----o----o--3x3--> p4        across_up       previous level, previous path
                     |    |    |                   across_down     next level, previous path
    p3 -------------------o----o--3x3--> p3        across_skip     same level, before the first path
                          |    |
    p2 ------------------------o--3x3--> p2

    1x1     paths, one after another            (drawn: five bottom-up paths and the paper's triangle of skipped nodes)

A coarser map is upsampled before its transition; a finer one goes through a convolution of stride 2. Convolutions have
the paper's order: activation, convolution, norm. All paths are one `Graph`.

Deliberate differences from mmdet: any map sizes, where mmdet needs each map to be exactly twice the next one; a coarser
map is always upsampled, and ``"identity"`` exists, whereas mmdet's own defaults (a bare convolution of a coarser map,
``type='identity'``, no ``skip_inds``) end in errors; transitions that a path's direction does not run are not built;
activations do not overwrite maps that other transitions read; in a top-down path, ``skip_inds`` counts levels from
the finest one, as in a bottom-up path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import boolean, integer, integers, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..ops.pooling import max_pool2d
from ..upsampling import UpsampleMode, check_upsample, make_upsample
from ..weights import accept_layouts
from ..weights.maps import fpg as tables
from .base import PyramidNeck, check_halving
from .card import C2_TO_C5, NeckCard
from .fpg_grid import (
    STEPS,
    GridNode,
    OrderedConv,
    Place,
    Transition,
    check_paths,
    check_skipped,
    check_transition,
    graph_of,
    grid,
)
from .graph import run_graph

BOTTOM_UP = ("bottom_up",) * 9


class FPG(PyramidNeck):
    """Grid of parallel paths between the backbone and the pyramid, with connections in all directions.

    A transition is given as the side of a convolution's kernel (odd), as ``"identity"``, as a factory
    ``(in_channels, out_channels, stride) -> nn.Module``, or as ``None`` for none.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`.
        inter_channels: channels of the grid, or one number per level; ``None`` for ``out_channels``.
        num_extra_levels: number of levels after the last used input; sizes are rounded up.
        extra_convs: whether 3x3 convolutions of stride 2 make them instead of taking every second cell.
        paths: direction of each path, ``"bottom_up"`` or ``"top_down"`` (paper: nine bottom-up ones).
        same_up, same_down: transitions within bottom-up and top-down paths.
        across_lateral, across_down, across_up: transitions from the previous path.
        across_skip: transition from the map before the first path.
        output_conv: side of the kernel of each level's last convolution, ``"identity"``, or a factory as above.
        skipped_paths: ``"triangle"`` (paper: a level ``k`` steps below the coarsest one skips the first ``k`` paths),
            ``"none"``, or for each level a list of the paths, from 0, that skip it.
        upsample_mode: resizing of coarser maps before their transitions, see `make_upsample`.
        norm: norm after each convolution of the grid; ``"BN"`` as in the paper.
        act: activation before each convolution of the grid and the last ones.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`.
        gradient_checkpointing: keep only the maps between the nodes for backward and recompute the others.

    State dict: see ``weights/maps/fpg.py``. mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above, or a node that nothing enters.
    """

    card = NeckCard(
        idea="Nine parallel bottom-up paths instead of one top-down path, connected with each other in a regular grid.",
        use_when="when accuracy matters most, training is long and batch norm works: as accurate as NASFPN in mmdet's "
        "comparison, and regular, so that paths and channels can be fewer.",
        caveats="Eight times the MACs of FPN on the same maps, and the memory to match; the gain was published for 50 "
        "epochs of large crops.",
        paper="Kai Chen, Yuhang Cao, Chen Change Loy, Dahua Lin, Christoph Feichtenhofer: Feature Pyramid Grids. arXiv "
        "2020, arXiv:2004.03580",
        reference="mmdet `models/necks/fpg.py`",
        topology=graph_of(
            grid(
                BOTTOM_UP[:5],
                ("same_up", "across_lateral", "across_down", "across_skip"),
                check_skipped("triangle", 5, 5),
            ),
            5,
        ),
        results=(
            "box AP 40.5 (FPN: 37.9): RetinaNet R50, 640 crops, 50 epochs (mmdet model zoo)",
            "box AP 42.3: Faster R-CNN R50, 640 crops, 50 epochs (mmdet model zoo)",
            "box AP 43.0: Mask R-CNN R50, 640 crops, 50 epochs (mmdet model zoo)",
        ),
        in_specs=C2_TO_C5,
        example_arguments={"out_channels": 32, "inter_channels": 16, "paths": ("bottom_up",) * 4},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        inter_channels: int | Sequence[int] | None = None,
        in_indices: Sequence[int] | None = None,
        num_extra_levels: int = 1,
        extra_convs: bool = False,
        paths: Sequence[str] = BOTTOM_UP,
        same_up: Transition | None = 3,
        same_down: Transition | None = 3,
        across_lateral: Transition | None = 1,
        across_down: Transition | None = 3,
        across_up: Transition | None = None,
        across_skip: Transition | None = 1,
        output_conv: Transition = 3,
        skipped_paths: str | Sequence[Sequence[int]] = "triangle",
        upsample_mode: UpsampleMode = "nearest",
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        self.num_extra_levels = integer("num_extra_levels", num_extra_levels, 0)
        num_inputs = len(self.in_indices)
        num_levels = num_inputs + num_extra_levels
        check_layers(norm=norm, act=act, conv=conv, init=init)
        check_upsample(upsample_mode, out_channels)
        built = boolean("extra_convs", extra_convs)
        widths = _check_widths(inter_channels, out_channels, num_levels)
        if not built and len(set(widths[num_inputs - 1 :])) > 1:
            raise ValueError(f"inter_channels={widths}: extra levels keep the channels; set extra_convs=True")
        values = (same_up, same_down, across_lateral, across_down, across_up, across_skip)
        given = dict(zip(STEPS, values, strict=True))
        for name, value in given.items():
            check_transition(name, value)
        check_transition("output_conv", output_conv)
        if output_conv is None:
            raise TypeError('output_conv=None: each level has one; pass "identity" for none, or an odd kernel size')
        directions = check_paths(paths)
        skipped = check_skipped(skipped_paths, num_levels, len(directions))
        places = grid(directions, [name for name, value in given.items() if value is not None], skipped)
        self.graph = graph_of(places, num_levels)
        self._places = [(place.path, str(place.level)) for place in places]

        def layer(name: str, value: Any, channels: int, width: int, norm: Any = norm) -> nn.Module:
            stride = 2 if STEPS.get(name) == -1 else 1
            if value == "identity":
                return _identity(name, channels, width)
            if not isinstance(value, int):
                return value(channels, width, stride)
            return OrderedConv(channels, width, value, stride, norm=norm, act=act, conv=conv)

        def node(place: Place) -> GridNode:
            steps = {name: STEPS[name] for name in place.reads}
            sources = {name: widths[place.level + step] for name, step in steps.items()}
            transitions = {name: layer(name, given[name], sources[name], widths[place.level]) for name in steps}
            coarser = [name for name, step in steps.items() if step == 1]
            return GridNode(transitions, {name: make_upsample(upsample_mode, sources[name]) for name in coarser})

        self.lateral_convs = nn.ModuleList(
            ConvNormAct(channels, width, 1, conv=conv)
            for channels, width in zip(self.used_channels, widths[:num_inputs], strict=True)
        )
        extra = zip(widths[num_inputs - 1 :], widths[num_inputs:], strict=False)
        self.extra_levels = nn.ModuleList(
            ConvNormAct(before, width, 3, 2, conv=conv) if built else EverySecondCell() for before, width in extra
        )
        by_level = sorted(places, key=lambda place: (place.path, place.level))  # the order in which weights are drawn
        built_paths = [nn.ModuleDict() for _ in directions]
        for place in by_level:
            built_paths[place.path][str(place.level)] = node(place)
        self.paths = nn.ModuleList(built_paths)
        self.output_convs = nn.ModuleList(
            layer("output_conv", output_conv, width, out_channels, None) for width in widths
        )
        init_convs(self, init)
        unused = {"bottom_up": "same_down", "top_down": "same_up"}
        not_run = tuple(f"fpn_transitions.{s}.<i>.{unused[d]}.<*>" for s, d in enumerate(directions))
        accept_layouts(self, (tables.mmdet(not_run),), ("lateral_convs.", "extra_levels.", "paths.", "output_convs."))

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward`, and return those at ``in_indices``.

        Raises:
            ValueError: also for a map that is not half as large as the previous one, rounded up.
        """
        used = super().used(inputs)
        check_halving(used, type(self).__name__)
        return used

    def pyramid(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        maps = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=True)]
        for downsample in self.extra_levels:
            maps.append(downsample(maps[-1]))
        nodes = [self.paths[path][level] for path, level in self._places]  # type: ignore[index]
        merged = run_graph(self.graph, nodes, maps, checkpointed=self.gradient_checkpointing)
        return [
            checkpointing.run(conv, x, checkpointed=self.gradient_checkpointing)
            for conv, x in zip(self.output_convs, merged, strict=True)
        ]


class EverySecondCell(nn.Module):
    """Subsampling of ``n`` cells to ``ceil(n / 2)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to ``B C ceil(H / 2) ceil(W / 2)``."""
        return max_pool2d(x, (1, 1), (2, 2))


def _identity(name: str, channels: int, width: int) -> nn.Module:
    if channels != width:
        raise ValueError(f"{name}='identity' needs equal inter_channels, but reads {channels} channels into {width}")
    return nn.Identity()


def _check_widths(inter_channels: int | Sequence[int] | None, out_channels: int, num_levels: int) -> tuple[int, ...]:
    if inter_channels is None:
        return (out_channels,) * num_levels
    if isinstance(inter_channels, Sequence):
        return integers("inter_channels", inter_channels, 1, num_levels)
    return (positive_int("inter_channels", inter_channels),) * num_levels
