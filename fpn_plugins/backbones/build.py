"""Build backbones by name, and register users' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from ..checks import one_of, shown
from ..features import FeatureSpec, check_feature_specs
from ..keywords import check_keywords, keyword_parameters, theirs, type_name

# every backbone by its class name; the adapters and the contract tests iterate over this table
BACKBONES: dict[str, type[nn.Module]] = {}

BackboneClass = TypeVar("BackboneClass", bound=type[nn.Module])


def register_backbone(backbone: BackboneClass) -> BackboneClass:
    """Class decorator: add a backbone to ``BACKBONES`` under its class name, so that `build_backbone` finds it.

    ``docs/extending.md`` has an example.

    Args:
        backbone: subclass of ``nn.Module`` whose constructor takes keyword arguments and sets ``feature_specs``, and
            whose forward maps ``B 3 H W`` to a tuple of maps; it can derive from `Backbone`.

    Raises:
        TypeError: not a subclass of ``nn.Module``, or a parameter that `build_backbone` cannot pass, because it is
            positional-only or named ``type``.
        ValueError: the name is taken by another class.
    """
    if not (isinstance(backbone, type) and issubclass(backbone, nn.Module)):
        raise TypeError(f"register_backbone got {backbone!r}; it must be a subclass of nn.Module")
    name = backbone.__name__
    keyword_parameters(backbone, "backbone")
    taken = BACKBONES.setdefault(name, backbone)
    if taken is not backbone:
        raise ValueError(f"backbone name {name!r} is taken by {taken.__module__}.{name}; rename the class")
    return backbone


def build_part(argument: str, backbone: nn.Module | Mapping[str, Any]) -> tuple[Any, tuple[FeatureSpec, ...]]:
    """Build a backbone that another one contains; return it and the specs of its maps.

    Raises:
        ValueError: see `build_backbone`.
        TypeError: likewise; also for a module that publishes no ``feature_specs``.
    """
    built = build_backbone(backbone, argument)
    specs = getattr(built, "feature_specs", None)
    return built, check_feature_specs(specs, f"{argument}={type(built).__name__}")


def build_backbone(backbone: nn.Module | Mapping[str, Any], argument: str = "backbone") -> Any:
    """Return a backbone unchanged, or build it from ``{"type": name in BACKBONES, **arguments}``.

    ``argument`` is the name of the argument that holds it, for messages.

    Raises:
        ValueError: unknown type (suggests similar names).
        TypeError: an argument that the backbone does not have, a registered class that publishes no ``feature_specs``,
            or any other value, such as a bare name.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    if not isinstance(backbone, Mapping):
        raise TypeError(
            f'{argument}={shown(backbone)} must be a backbone, or a mapping such as {{"type": "TimmBackbone"}}'
        )
    arguments = {str(key): value for key, value in backbone.items()}
    name = type_name(argument, backbone)
    one_of(f"{argument} type", name, BACKBONES, f", or see register_backbone{theirs(name)}")
    arguments.pop("type", None)
    check_keywords(BACKBONES[name], arguments)
    built = BACKBONES[name](**arguments)
    if not getattr(built, "feature_specs", None):
        raise TypeError(
            f"backbone {name!r} publishes no feature_specs; set feature_specs to the channels and stride of each map"
        )
    check_feature_specs(built.feature_specs, f"backbone {name!r}")
    return built
