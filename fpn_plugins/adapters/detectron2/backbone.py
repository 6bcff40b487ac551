"""Join a backbone and a neck in one Detectron2 ``Backbone``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from ...checks import integer, one_of, sequence
from ...features import FeatureSpec, level_names
from ...layers import OR_FACTORY
from ...ops.scripting import Form
from ...pyramid import Part, Pyramid
from ...weights import redirect_keys
from ...weights.maps import fpn, simple_pyramid

logger = logging.getLogger("detectron2.fpn_plugins")


class PyramidBackbone(Pyramid, Backbone):
    """`fpn_plugins.Pyramid` as Detectron2's heads expect it: ``{"p2": map, "p3": map, ...}``.

    See `Pyramid` for arguments that are not listed; Detectron2's heads and ``ROIAlign`` take either memory format.

    Args:
        bottom_up: a backbone of this package, a ``{"type": ..., **arguments}`` mapping of one, or any Detectron2
            ``Backbone`` (its ResNet, RegNet, ...).
        neck: see `Pyramid`; ``norm`` may be any of Detectron2's names (``FrozenBN``, ``naiveSyncBN``, ...). ``None``
            returns the backbone's own maps as ``c2``, ``c3``, ...: a bottom-up network for Detectron2's own FPN.
        in_features: maps of a Detectron2 ``bottom_up`` that the neck reads, high to low resolution; ``None`` is all.
            Backbones of this package have ``out_indices`` instead.
        square_pad: pad images to squares of this side in pixels, a multiple of the backbone's last stride; 0 is off.
            Larger images are padded to the next multiple. (`ImageList`'s own ``square_size``, which Detectron2's
            ``SimpleFeaturePyramid`` and ``FPN`` use, silently crops them.)
        size_divisibility: pad images to a multiple of this many pixels; ``None`` is the stride of the backbone's last
            map, as in Detectron2's FPN, and 0 turns padding off: the necks do not need it. `SimpleFeaturePyramid`
            halves the last map once more, rounding down; 32 keeps its P5 whole where ``square_pad`` is off.

    State dict: ``bottom_up.*`` and ``neck.*``; checkpoints of Detectron2's own FPN (``fpn_lateral2``, ``top_block``,
    ...) and of ViTDet (``net``, ``simfp_2``, ...) load as they are. Detectron2 reports levels that this pyramid does
    not have.

    ``torch.jit.script`` compiles it with Detectron2's ResNet, after an import of ``detectron2.export``, and a
    scriptable neck (`fpn_plugins.FPN` and its relatives), as it compiles Detectron2's own FPN.

    Raises:
        ValueError: see `Pyramid`; also for ``in_features`` that the backbone does not have, maps that share a stride,
            or ``square_pad`` that the backbone's last stride does not divide.
    """

    script_form = Form
    part_names = ("bottom_up", "neck")
    backbone_argument = "bottom_up"

    def __init__(
        self,
        bottom_up: Part,
        neck: Part | Sequence[Part] | None,
        in_features: Sequence[str] | None = None,
        square_pad: int = 0,
        size_divisibility: int | None = None,
        channels_last: bool = False,
        autocast: str | None = None,
        out_positions: Sequence[int] | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        if in_features is not None:
            in_features = sequence("in_features", in_features, 'names of maps, such as ["res3", "res4"]')
        self._chosen_features = in_features  # read by `_in_specs` while the pyramid is built
        super().__init__(bottom_up, _with_detectron2_norm(neck), out_positions, channels_last, autocast, compile)
        in_specs = self._in_specs(self.parts()[0])
        names = _names(self.feature_specs, "c" if self.neck is None else "p")
        self._out_features = names
        self._out_feature_channels = {name: s.channels for name, s in zip(names, self.feature_specs, strict=True)}
        self._out_feature_strides = {name: s.stride for name, s in zip(names, self.feature_specs, strict=True)}
        self._size_divisibility = in_specs[-1].stride
        if size_divisibility is not None:
            self._size_divisibility = integer("size_divisibility", size_divisibility, 0)
        if integer("square_pad", square_pad, 0):
            self._size_divisibility = _check_square_pad(square_pad, in_specs[-1].stride)
        redirect_keys(self, fpn.detectron2_backbone([spec.level for spec in in_specs]))
        redirect_keys(self, simple_pyramid.detectron2_backbone())

    @property
    def size_divisibility(self) -> int:
        """Return the number of pixels that image sides are padded to a multiple of."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Return the padding arguments of Detectron2's ``ImageList``; ``square_size`` stays off, see ``square_pad``."""
        return {"size_divisibility": self._size_divisibility, "square_size": 0}

    def compile_log(self, level: int, message: str) -> None:
        """Log a message of compilation as Detectron2 does, to the training's log too."""
        logger.log(level, message)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``B 3 H W`` to the pyramid's maps by name, high to low resolution."""
        maps = self.maps(x)
        return {name: maps[index] for index, name in enumerate(self._out_features)}

    def _compute(self, x: Tensor) -> list[Tensor]:
        features = self.bottom_up(x)  # type: ignore[operator]
        if self.in_features is not None:
            features = [features[name] for name in self.in_features]
        outputs = features
        if self.neck is not None:
            outputs = self.neck(features)  # type: ignore[operator]
        return [outputs[index] for index in self.out_positions]

    def _in_specs(self, backbone: nn.Module) -> tuple[FeatureSpec, ...]:
        """Return the specs of the maps that the neck reads, for Detectron2 backbones from ``output_shape``."""
        chosen = self._chosen_features
        self.in_features: tuple[str, ...] | None = None  # this package's backbones return tuples
        if not isinstance(backbone, Backbone):
            if chosen:
                raise ValueError(f"in_features={list(chosen)} is for Detectron2 backbones; use out_indices instead")
            return super()._in_specs(backbone)
        shapes: dict[str, ShapeSpec] = backbone.output_shape()
        self.in_features = tuple(chosen or shapes)
        unknown = [name for name in self.in_features if name not in shapes]
        if unknown:
            raise ValueError(
                f"in_features={list(self.in_features)}: the backbone has no {unknown}, it has {list(shapes)}"
            )
        return tuple(FeatureSpec(shapes[name].channels, shapes[name].stride) for name in self.in_features)


# Detectron2's, see its get_norm
NORMS = ("BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")


def _names(specs: Sequence[FeatureSpec], prefix: str) -> list[str]:
    names = list(level_names(specs, prefix))
    if len(set(names)) < len(names):
        raise ValueError(
            f"the maps {names} share a stride, but Detectron2 names maps by stride; choose one map per stride (the "
            "backbone's out_indices or out_block_indices), or a neck that builds a pyramid from them"
        )
    return names


def _check_square_pad(square_pad: int, stride: int) -> int:
    if square_pad % stride:
        raise ValueError(
            f"square_pad={square_pad} must be a multiple of the stride {stride} of the backbone's last map"
        )
    return square_pad


def _with_detectron2_norm(neck: Part | Sequence[Part] | None) -> Any:
    """Let Detectron2 build norms that are given by name; in both packages, ``""`` means no norm."""
    if isinstance(neck, Mapping):
        norm = neck.get("norm")
        if not isinstance(norm, str) or not norm:
            return neck
        return {**neck, "norm": partial(get_norm, one_of("norm", norm, NORMS, OR_FACTORY))}
    if isinstance(neck, Sequence) and not isinstance(neck, str):
        return [_with_detectron2_norm(part) for part in neck]
    return neck
