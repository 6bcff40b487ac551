"""Build backbones by name, and register users' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from ..checks import keyword_parameters, one_of

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


def build_backbone(backbone: nn.Module | Mapping[str, Any]) -> Any:
    """Return a backbone unchanged, or build it from ``{"type": name in BACKBONES, **arguments}``.

    Raises:
        ValueError: unknown type (suggests similar names).
        TypeError: an argument that the backbone does not have, a registered class that publishes no ``feature_specs``,
            or any other value, such as a bare name.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    if not isinstance(backbone, Mapping):
        raise TypeError(f'backbone={backbone!r} must be a backbone, or a mapping such as {{"type": "TimmBackbone"}}')
    arguments = {str(key): value for key, value in backbone.items()}
    name = one_of("backbone type", arguments.pop("type", None), BACKBONES, ", or see register_backbone")
    built = BACKBONES[name](**arguments)
    if not getattr(built, "feature_specs", None):
        raise TypeError(
            f"backbone {name!r} publishes no feature_specs; set feature_specs to the channels and stride of each map"
        )
    return built
