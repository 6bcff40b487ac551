"""Watch a training as its config says: the section ``WATCH`` of a YAML config, ``train.watch`` of a LazyConfig."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data import detection_utils as utils
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ...checks import boolean, integer, one_of, positive_int, probability, shown
from .watching import PyramidVisualization, ValidationLoss
from .writers import WRITERS

DEFAULTS: dict[str, Any] = {
    "val_loss": False,  # log the losses on the validation set
    "max_images": 500,  # of the validation set, for its losses
    "pictures": 0,  # images of the validation set to draw; 0 is off
    "min_score": 0.3,  # lowest score of a detection to draw
    "period": 0,  # iterations; 0 is the period of evaluations
    "writers": [],  # further writers beside Detectron2's: names in WRITERS
    "project": "fpn_plugins",  # W&B's project, MLflow's experiment
    "name": "",  # name of the run; empty lets the writer choose
}


def read_watch(given: Any) -> dict[str, Any]:
    """Complete and check the options for watching a training, see `DEFAULTS`.

    Raises:
        TypeError, ValueError: an unknown option, or a wrong value; the message names it.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not {str(key).lower() for key in given} <= set(DEFAULTS):
        raise ValueError(f"train.watch={shown(given)} (WATCH in YAML) must have keys of {list(DEFAULTS)} only")
    options = {**DEFAULTS, **{str(key).lower(): value for key, value in given.items()}}
    boolean("watch.val_loss", options["val_loss"])
    positive_int("watch.max_images", options["max_images"])
    integer("watch.pictures", options["pictures"], 0)
    probability("watch.min_score", options["min_score"])
    integer("watch.period", options["period"], 0)
    for name in options["writers"]:
        one_of("watch.writers", name, WRITERS)
    return options


def watching_hooks(cfg: Any) -> list[HookBase]:
    """Build the hooks that a config asks for; see `ValidationLoss` and `PyramidVisualization`.

    Args:
        cfg: YAML config with this package's keys, or LazyConfig.
    """
    is_yaml = isinstance(cfg, CfgNode)
    options = read_watch(cfg.get("WATCH") if is_yaml else cfg.train.get("watch"))
    if not options["val_loss"] and not options["pictures"]:
        return []
    dataset, training, testing, names = (_yaml_data if is_yaml else _lazy_data)(cfg)
    period = options["period"] or (cfg.TEST.EVAL_PERIOD if is_yaml else cfg.train.eval_period)
    found: list[HookBase] = []
    if options["val_loss"]:
        loader = cfg.DATALOADER if is_yaml else cfg.dataloader.train
        total = cfg.SOLVER.IMS_PER_BATCH if is_yaml else loader.total_batch_size
        found.append(
            ValidationLoss(
                dataset,
                training,
                period,
                options["max_images"],
                max(1, total // comm.get_world_size()),
                loader.NUM_WORKERS if is_yaml else loader.get("num_workers", 0),
            )
        )
    if options["pictures"]:
        found.append(PyramidVisualization(dataset, testing, names, period, options["pictures"], options["min_score"]))
    return found


def add_watching_hooks(given: Sequence[HookBase | None], cfg: Any) -> list[HookBase | None]:
    """Insert `watching_hooks` before Detectron2's ``PeriodicWriter``, so that the writers get what they log.

    In a trainer of your own::

        def build_hooks(self):
            return add_watching_hooks(super().build_hooks(), self.cfg)
    """
    place = next((index for index, hook in enumerate(given) if isinstance(hook, hooks.PeriodicWriter)), len(given))
    return [*given[:place], *watching_hooks(cfg), *given[place:]]


def add_watching_writers(given: Sequence[EventWriter], cfg: Any) -> list[EventWriter]:
    """Put the writers that a config asks for before others, since TensorBoard's removes the pictures it has written.

    In a trainer of your own::

        def build_writers(self):
            return add_watching_writers(super().build_writers(), self.cfg)
    """
    is_yaml = isinstance(cfg, CfgNode)
    options = read_watch(cfg.get("WATCH") if is_yaml else cfg.train.get("watch"))
    folder = cfg.OUTPUT_DIR if is_yaml else cfg.train.output_dir
    own = [WRITERS[name](folder, options["project"], options["name"] or None) for name in options["writers"]]
    return [*own, *given]


def _yaml_data(cfg: Any) -> tuple[list[dict[str, Any]], Any, Any, list[str]]:
    """Return the validation set's dicts, mappers for training and for evaluation, and class names."""
    if not cfg.DATASETS.TEST:
        raise ValueError("WATCH needs a validation set, and DATASETS.TEST is empty")
    name = cfg.DATASETS.TEST[0]
    dataset = get_detection_dataset_dicts(name, filter_empty=False, check_consistency=False)
    augmentations = utils.build_augmentation(cfg, is_train=False)
    training = DatasetMapper(cfg, is_train=True, augmentations=augmentations)
    return dataset, training, DatasetMapper(cfg, is_train=False), _class_names(name)


def _lazy_data(cfg: Any) -> tuple[list[dict[str, Any]], Any, Any, list[str]]:
    """Do what `_yaml_data` does, for a LazyConfig."""
    test: Any = cfg.dataloader.get("test") or {}
    names = (test.get("dataset") or {}).get("names") or ()
    if not names:
        raise ValueError("train.watch needs a validation set, and dataloader.test.dataset has no names")
    training, testing = instantiate(training_mapper(cfg)), instantiate(test.mapper)
    return instantiate(test.dataset), training, testing, _class_names(names if isinstance(names, str) else names[0])


def training_mapper(cfg: Any) -> Any:
    """Return the config of a LazyConfig's mapper for training, with the augmentations of the evaluation.

    Raises:
        ValueError: one of the two mappers has no ``augmentations``.
    """
    inner, test = cfg.dataloader.train.mapper, cfg.dataloader.test.mapper
    while isinstance(inner, Mapping) and "augmentations" not in inner and "mapper" in inner:
        inner = inner["mapper"]  # of RepeatedAugmentation
    if not all(isinstance(mapper, Mapping) and "augmentations" in mapper for mapper in (inner, test)):
        raise ValueError(
            "train.watch.val_loss needs mappers with augmentations in dataloader.train and dataloader.test; with "
            "others, register fpn_plugins.adapters.detectron2.ValidationLoss in a script of your own"
        )
    mapper = copy.deepcopy(inner)
    mapper["augmentations"] = copy.deepcopy(test["augmentations"])
    return mapper


def _class_names(name: str) -> list[str]:
    return list(MetadataCatalog.get(name).get("thing_classes") or ())
