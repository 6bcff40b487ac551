"""Join a backbone and a neck in a `Pyramid`: images in, feature maps out. Every adapter is built on it.

image  B 3 H W -> backbone -> c2 .. c5 -> neck (+ extra levels) -> p2 .. p6
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .backbones import build_backbone
from .backbones.base import keep_maps, pixel_statistics
from .checks import ascending, boolean, one_of
from .features import FeatureSpec, check_feature_specs, check_outputs
from .keywords import KeywordChecked
from .necks import build_neck
from .ops.compilation import CompiledInPlace
from .ops.scripting import Form, ImageForm, scriptable_form

Part = nn.Module | Mapping[str, Any]
AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Pyramid(KeywordChecked, CompiledInPlace, nn.Module):
    """Backbone and neck in one module; the neck's input channels come from the backbone.

    Example::

        pyramid = Pyramid({"type": "TimmBackbone", "name": "resnet50"}, {"type": "FPN", "out_channels": 256})
        p2, p3, p4, p5 = pyramid(images)

    Args:
        backbone: a backbone of this package, any module with ``feature_specs`` that returns a tuple of maps, or a
            ``{"type": name in BACKBONES, **arguments}`` mapping. A backbone of this package loses the layers that only
            maps need that the neck does not read (``read_indices``) or that are not returned; see `Backbone.keep_maps`.
        neck: a neck, a ``{"type": name in NECKS, **arguments}`` mapping without ``in_channels``, or a sequence of
            them, applied one after the other; ``None`` returns the backbone's maps.
        out_positions: positions of the maps to return, in ascending order; ``None`` returns all.
        channels_last: compute on channels-last maps and return them in that format; results are equal up to rounding.
            Inference on a CPU gets faster; training may not, depending on the processor, so measure first.
        autocast: ``"bfloat16"`` or ``"float16"``: compute under autocast and return single-precision maps. ``None``
            leaves the precision to the caller.
        compile: whether to compile the pyramid in place with ``torch.compile``, or a mapping of its options; see
            `compile` and ``docs/guides/compile.md``.

    Attributes:
        feature_specs: channels and stride of each returned map.
        pixel_mean: pixel mean that the backbone's weights expect, RGB, on the 0..255 scale; ImageNet's for a backbone
            that states none.
        pixel_std: standard deviation of these pixels.

    State dict: ``backbone.*`` and ``neck.*``; a subclass that names the two parts differently (`part_names`) computes
    the maps in a ``_compute`` of its own. ``torch.jit.script`` compiles a pyramid of scriptable parts.

    Raises:
        ValueError: an unknown type, a neck that does not fit the backbone, positions that are not ascending positions
            of its maps, or an unknown ``autocast``.
        TypeError: something that is not a backbone or neck, such as a bare name, or an unknown argument of either.
    """

    script_form: ClassVar[type[Form]] = ImageForm  # `Form` for a subclass whose own ``forward`` TorchScript compiles
    part_names: ClassVar[tuple[str, str]] = ("backbone", "neck")
    backbone_argument: ClassVar[str] = "backbone"  # name of the constructor's argument, for messages
    __jit_unused_properties__: ClassVar[list[str]] = ["pixel_mean", "pixel_std"]

    def __init__(
        self,
        backbone: Part,
        neck: Part | Sequence[Part] | None = None,
        out_positions: Sequence[int] | None = None,
        channels_last: bool = False,
        autocast: str | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        super().__init__()
        self.channels_last = boolean("channels_last", channels_last)
        self.autocast_dtype: torch.dtype | None = None
        if autocast is not None:
            self.autocast_dtype = AUTOCAST_DTYPES[one_of("autocast", autocast, AUTOCAST_DTYPES, ", or None")]
        built = build_backbone(backbone, self.backbone_argument)
        in_specs = self._in_specs(built)
        built_neck = None if neck is None else build_neck(neck, in_specs)
        for name, part in zip(self.part_names, (built, built_neck), strict=True):
            self.register_module(name, part)
        specs = in_specs if built_neck is None else built_neck.out_specs(in_specs)
        number = len(specs)
        self.out_positions = tuple(range(number))
        if out_positions is not None:
            self.out_positions = ascending("out_positions", out_positions, number, f"of its maps (0..{number - 1})")
        self.feature_specs: tuple[FeatureSpec, ...] = tuple(specs[position] for position in self.out_positions)
        read = self.out_positions if built_neck is None else getattr(built_neck, "read_indices", None)
        if read is not None:
            keep_maps(built, read)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compile_if(compile)

    def parts(self) -> tuple[nn.Module, Any]:
        """Return the backbone and the neck (or ``None``), independent of the names they are registered under."""
        backbone, neck = (getattr(self, name) for name in self.part_names)
        return backbone, neck

    @property
    def pixel_mean(self) -> list[float]:
        """Return the pixel mean that the backbone's weights expect."""
        return pixel_statistics(self.parts()[0])[0]

    @property
    def pixel_std(self) -> list[float]:
        """Return the pixel standard deviation that the backbone's weights expect."""
        return pixel_statistics(self.parts()[0])[1]

    def forward(self, x: Tensor) -> Any:
        """Map images ``B 3 H W`` to a tuple of maps ``B C H W``, high to low resolution."""
        return tuple(self.maps(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Compute the maps in the chosen memory format and precision."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.autocast_dtype is None:
            return self._compute(x)
        return self._compute_reduced(x)

    @torch.jit.unused
    def _compute_reduced(self, x: Tensor) -> list[Tensor]:
        with torch.autocast(x.device.type, self.autocast_dtype):
            return [feature.float() for feature in self._compute(x)]

    def _compute(self, x: Tensor) -> list[Tensor]:
        maps = self.backbone(x)  # type: ignore[operator]
        if self.neck is not None:
            maps = self.neck(maps)  # type: ignore[operator]
        if not torch.jit.is_scripting():
            self._check(maps)
        return [maps[position] for position in self.out_positions]

    def _check(self, maps: Any) -> None:
        backbone, neck = self.parts()
        check_outputs(maps, self.out_positions[-1] + 1, type(backbone if neck is None else neck).__name__)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that ``torch.jit.script`` compiles instead of this one, with ``forward`` of `script_form`.

        Raises:
            ValueError: a pyramid with ``autocast``.
        """
        if self.autocast_dtype is not None:
            name = type(self).__name__
            raise ValueError(f"torch.jit.script does not compile autocast; build {name} with autocast=None")
        return scriptable_form(self, self.script_form)

    def _in_specs(self, backbone: nn.Module) -> tuple[FeatureSpec, ...]:
        """Return the specs of the maps that the neck reads; adapters override this for their toolbox's backbones."""
        specs, owner = getattr(backbone, "feature_specs", None), f"{self.backbone_argument}={type(backbone).__name__}"
        if specs is None:
            raise TypeError(
                f"{owner} publishes no feature_specs; use a backbone of fpn_plugins, or set feature_specs to the "
                "channels and stride of each of its maps"
            )
        return check_feature_specs(specs, owner)
