"""Register builders for Detectron2's YAML configs, `PyramidBackbone` for LazyConfig, and a hook for any script.

``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2`` makes Detectron2 import this package and call
`setup_environment`; in your own script, call `add_fpn_plugins_config` on the config instead.

Importing this package also lets Detectron2's checkpointer, in any script, resize tables of this package's modules, and
refuse weights of another shape for them (`fit_before_shapes_are_compared`).
"""

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fpn_plugins.adapters.detectron2 needs Detectron2 ({error}): install it (`make install` does), "
        "and what it needs with pip install 'fpn_plugins[detectron2]'"
    ) from error

from ...moved import explain_moved_attributes
from .backbone import PyramidBackbone
from .builders import (
    build_fpn_plugins_backbone,
    build_fpn_plugins_resnet_fpn_backbone,
    build_fpn_plugins_retinanet_resnet_fpn_backbone,
)
from .checkpointing import fit_before_shapes_are_compared
from .config import add_fpn_plugins_config, setup_environment
from .datasets import load_stuff_labels, register_coco_folder, register_coco_panoptic_folder, register_coco_split
from .panoptic_fpn import PanopticFPNHead
from .pixels import PixelMapper
from .repeated_augmentation import RepeatedAugmentation
from .resume import ExactResume
from .retinanet import FPNPluginsRetinaNet
from .solver import bottom_up_lr_factor, get_layer_decay_params
from .views import DetectorWithTTA
from .watch_config import add_watching_hooks, add_watching_writers, watching_hooks
from .watching import PyramidVisualization, ValidationLoss
from .writers import MLflowWriter, WandbWriter

fit_before_shapes_are_compared()
explain_moved_attributes(__name__)

__all__ = [
    "DetectorWithTTA",
    "ExactResume",
    "FPNPluginsRetinaNet",
    "MLflowWriter",
    "PanopticFPNHead",
    "PixelMapper",
    "PyramidBackbone",
    "PyramidVisualization",
    "RepeatedAugmentation",
    "ValidationLoss",
    "WandbWriter",
    "add_fpn_plugins_config",
    "add_watching_hooks",
    "add_watching_writers",
    "bottom_up_lr_factor",
    "build_fpn_plugins_backbone",
    "build_fpn_plugins_resnet_fpn_backbone",
    "build_fpn_plugins_retinanet_resnet_fpn_backbone",
    "fit_before_shapes_are_compared",
    "get_layer_decay_params",
    "load_stuff_labels",
    "register_coco_folder",
    "register_coco_panoptic_folder",
    "register_coco_split",
    "setup_environment",
    "watching_hooks",
]
