"""Add this package's scope to mmengine's registries.

For a type such as ``fpn_plugins.FPN``, mmengine imports ``<scope>.registry`` and the adapter named in ``locations``, so
a config needs no ``custom_imports``.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .checks import near_names

SCOPE = "fpn_plugins"


class SuggestingRegistry(Registry):
    """Registry of mmengine that explains an unknown type."""

    def get(self, key: str) -> Any:
        """Return the class of a type.

        Raises:
            ValueError: no such type; suggests similar names, and mmdet's class of that name.
        """
        found = super().get(key)
        if found is None:
            name = key.removeprefix(f"{SCOPE}.")
            near = near_names(name, self.module_dict)
            theirs = Registry.get(self, f"mmdet.{name}") if "." not in name else None
            hint = f"; mmdet's own class is type='mmdet.{name}'" if theirs is not None else ""
            raise ValueError(f"type='{SCOPE}.{name}' is unknown; choose one of {sorted(self.module_dict)}{near}{hint}")
        return found


def _registry(name: str, parent: Registry) -> Registry:
    return SuggestingRegistry(name, parent=parent, scope=SCOPE, locations=["fpn_plugins.adapters.mmdet"])


MODELS = _registry("model", MMENGINE_MODELS)
HOOKS = _registry("hook", MMENGINE_HOOKS)
METRICS = _registry("metric", MMENGINE_METRICS)
TRANSFORMS = _registry("transform", MMENGINE_TRANSFORMS)
OPTIM_WRAPPER_CONSTRUCTORS = _registry("optimizer wrapper constructor", MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS)
STRATEGIES = _registry("strategy", MMENGINE_STRATEGIES)
