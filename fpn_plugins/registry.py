"""Add this package's scope to mmengine's registries.

For a type such as ``fpn_plugins.FPN``, mmengine imports ``<scope>.registry`` and the adapter named in ``locations``, so
a config needs no ``custom_imports``.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="fpn_plugins", locations=["fpn_plugins.adapters.mmdet"])
HOOKS = Registry("hook", parent=MMENGINE_HOOKS, scope="fpn_plugins", locations=["fpn_plugins.adapters.mmdet"])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="fpn_plugins",
    locations=["fpn_plugins.adapters.mmdet"],
)
