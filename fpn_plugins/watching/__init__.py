"""Watch a training: losses on the validation set, and pictures of what every pyramid level responds to.

Both leave no trace in the training. The toolboxes' hooks are in `fpn_plugins.adapters.mmdet` (``ValidationLossHook``,
``PyramidVisualizationHook``) and `fpn_plugins.adapters.detectron2` (``ValidationLoss``, ``PyramidVisualization``).
"""

from .levels import LevelMaps, assign_levels, is_one_stage, record_levels
from .losses import Batches, make_batches, mean_losses, spread
from .pictures import Watched, displayable, draw_watched, mlflow_key, picture_name
from .undisturbed import compute_as_trained, undisturbed

__all__ = [
    "Batches",
    "LevelMaps",
    "Watched",
    "assign_levels",
    "compute_as_trained",
    "displayable",
    "draw_watched",
    "is_one_stage",
    "make_batches",
    "mean_losses",
    "mlflow_key",
    "picture_name",
    "record_levels",
    "spread",
    "undisturbed",
]
