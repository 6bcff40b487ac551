"""Plan the training of a detector on a data set of one's own: sizes, anchors, schedule, augmentation, and why."""

from .anchors import Anchors, fit_anchors
from .cameras import Camera
from .folder import TrainingData, read_folder
from .plan import Machine, Recipe, plan_recipe

__all__ = ["Anchors", "Camera", "Machine", "Recipe", "TrainingData", "fit_anchors", "plan_recipe", "read_folder"]
