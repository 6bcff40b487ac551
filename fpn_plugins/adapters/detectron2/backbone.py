"""A backbone and a neck as one Detectron2 ``Backbone``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from ...backbones import build_backbone
from ...features import FeatureSpec, level_names
from ...layers import as_autocast_dtype
from ...necks import build_neck
from ...necks.scripting import sharing_copy
from ...weights import redirect_keys
from ...weights.maps import fpn, simple_pyramid

Neck = nn.Module | Mapping[str, Any]


class PyramidBackbone(Backbone):
    """Backbone + neck (+ extra levels) -> ``{"p2": map, "p3": map, ...}``, as Detectron2's heads expect it.

    Args:
        bottom_up: one of this package's backbones, a ``{"type": ..., **arguments}`` mapping of one, or any Detectron2
            ``Backbone`` (its ResNet, RegNet, ...).
        neck: a neck or a ``{"type": "FPN", **arguments}`` mapping without ``in_channels``, or a list of them, one
            behind the other; ``norm`` may be any of Detectron2's names (``FrozenBN``, ``naiveSyncBN``, ...). ``None``
            hands the backbone's own maps on, as ``c2``, ``c3``, ...: a bottom-up network for Detectron2's own FPN.
        in_features: which maps of a Detectron2 ``bottom_up`` to use, high to low resolution; ``None`` is all. Backbones
            of this package choose by their own ``out_indices``.
        square_pad: pad images to squares of this side in pixels, a multiple of the backbone's last stride; 0 is off. A
            larger image is padded to the next multiple of it: `ImageList`'s own ``square_size``, which detectron2's
            ``SimpleFeaturePyramid`` and ``FPN`` use, cuts what exceeds it off without a word.
        size_divisibility: pad images to a multiple of this many pixels; ``None`` is the stride of the backbone's last
            map, as in Detectron2's FPN. The necks need no padding; 0 turns it off. `SimpleFeaturePyramid` halves that
            map once more, rounding down: 32 keeps its P5 whole where ``square_pad`` is off.
        channels_last: compute on maps that lie channels-last in memory, and hand them on so: Detectron2's heads and its
            ``ROIAlign``, which is torchvision's, take either. Equal to rounding. On a CPU inference gains; whether
            training does depends on the processor (``docs/bench_necks.md``), so measure before you turn it on.
        autocast: ``"bfloat16"`` or ``"float16"``: compute backbone and neck under autocast, and hand the maps on in
            single precision. ``None`` leaves precision to the toolbox.

    State dict: ``bottom_up.*`` and ``neck.*``; Detectron2's own FPN checkpoints (``fpn_lateral2``, ``top_block``, ...)
    and ViTDet's (``net``, ``simfp_2``, ...) load as they are. Levels that this pyramid does not have are left to
    Detectron2, which reports them.

    ``torch.jit.script`` compiles it with Detectron2's ResNet, once ``detectron2.export`` is imported, and a neck that
    scripts (`fpn_plugins.FPN` and its relatives), as it does Detectron2's own FPN.

    Raises:
        ValueError: a neck whose channels do not fit the backbone, ``in_features`` that the backbone does not have,
            maps that share a stride, or ``square_pad`` that its stride does not divide.
        TypeError: a backbone or a neck that is none, such as a name alone.
    """

    def __init__(
        self,
        bottom_up: nn.Module | Mapping[str, Any],
        neck: Neck | Sequence[Neck] | None,
        in_features: Sequence[str] | None = None,
        square_pad: int = 0,
        size_divisibility: int | None = None,
        channels_last: bool = False,
        autocast: str | None = None,
    ) -> None:
        super().__init__()
        self.autocast_dtype = as_autocast_dtype(autocast)
        self.bottom_up = build_backbone(bottom_up)
        self.in_features, in_specs = _in_specs(self.bottom_up, in_features)
        self.neck = None if neck is None else build_neck(_with_detectron2_norm(neck), in_specs)
        out_specs = in_specs if self.neck is None else self.neck.out_specs(in_specs)
        self._out_features = _names(out_specs, "c" if self.neck is None else "p")
        self._out_feature_channels = {name: s.channels for name, s in zip(self._out_features, out_specs, strict=True)}
        self._out_feature_strides = {name: s.stride for name, s in zip(self._out_features, out_specs, strict=True)}
        self._size_divisibility = in_specs[-1].stride if size_divisibility is None else size_divisibility
        if square_pad:
            self._size_divisibility = _check_square_pad(square_pad, in_specs[-1].stride)
        redirect_keys(self, fpn.detectron2_backbone([spec.level for spec in in_specs]))
        redirect_keys(self, simple_pyramid.detectron2_backbone())
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this many pixels."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What Detectron2's ``ImageList`` pads to, by both of its names; see ``square_pad`` for the second."""
        return {"size_divisibility": self._size_divisibility, "square_size": 0}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``B 3 H W`` to the pyramid's maps by name, high to low resolution."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.autocast_dtype is None:
            return self._maps(x)
        return self._reduced_maps(x)

    def _maps(self, x: Tensor) -> dict[str, Tensor]:
        features = self.bottom_up(x)
        if self.in_features is not None:
            features = [features[name] for name in self.in_features]
        outputs = features
        if self.neck is not None:
            outputs = self.neck(features)
        return {name: outputs[index] for index, name in enumerate(self._out_features)}

    @torch.jit.unused
    def _reduced_maps(self, x: Tensor) -> dict[str, Tensor]:
        with torch.autocast(x.device.type, self.autocast_dtype):
            return {name: x.float() for name, x in self._maps(x).items()}

    def __prepare_scriptable__(self) -> PyramidBackbone:
        """What ``torch.jit.script`` compiles, which puts a form of the neck in the neck's place."""
        return sharing_copy(self)


def _names(specs: Sequence[FeatureSpec], prefix: str) -> list[str]:
    names = list(level_names(specs, prefix))
    if len(set(names)) < len(names):
        raise ValueError(
            f"the maps {names} share a stride, by which Detectron2's are named; choose one of each stride (the "
            "backbone's out_indices or out_block_indices), or give a neck that makes a pyramid of them"
        )
    return names


def _check_square_pad(square_pad: int, stride: int) -> int:
    if square_pad % stride:
        raise ValueError(
            f"square_pad={square_pad} must be a multiple of the stride {stride} of the backbone's last map"
        )
    return square_pad


def _in_specs(
    bottom_up: nn.Module, in_features: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, tuple[FeatureSpec, ...]]:
    """Names (``None`` for this package's backbones, which return tuples) and specs of the maps that the neck reads."""
    if not isinstance(bottom_up, Backbone):
        if in_features:
            raise ValueError(f"in_features={list(in_features)} is for Detectron2 backbones; use out_indices instead")
        return None, tuple(bottom_up.feature_specs)  # type: ignore[arg-type]
    shapes: dict[str, ShapeSpec] = bottom_up.output_shape()
    names = tuple(in_features or shapes)
    unknown = [name for name in names if name not in shapes]
    if unknown:
        raise ValueError(f"in_features={list(names)}: the backbone has no {unknown}, it has {list(shapes)}")
    return names, tuple(FeatureSpec(shapes[name].channels, shapes[name].stride) for name in names)


def _with_detectron2_norm(neck: Neck | Sequence[Neck]) -> Any:
    """Let Detectron2 build the norms that are given by name; ``""`` is none, there and here."""
    if isinstance(neck, Mapping):
        norm = neck.get("norm")
        return {**neck, "norm": partial(get_norm, norm)} if isinstance(norm, str) and norm else neck
    if isinstance(neck, Sequence) and not isinstance(neck, str):
        return [_with_detectron2_norm(part) for part in neck]
    return neck
