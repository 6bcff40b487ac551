"""Evaluate with test-time augmentation: ``TEST.AUG`` of YAML configs, ``train.tta`` of LazyConfigs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.data.transforms import AugmentationList
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm

from ...checks import shown
from ...sharding import whole_parameters
from .pixels import mapper_of
from .views import DetectorWithTTA

_KEYS = ("min_sizes", "max_size", "flip")


def evaluate_yaml(cfg: CfgNode, model: Any) -> dict[str, Any]:
    """Evaluate on ``DATASETS.TEST`` with the views of ``TEST.AUG``, resized from the original images.

    Args:
        cfg: config.
        model: detector with its weights.

    Returns:
        Results by kind, such as ``"bbox_TTA"``; empty unless ``TEST.AUG.ENABLED``, and in other processes than the
        first. Of several data sets, each kind begins with the set's name.
    """
    aug = cfg.TEST.AUG
    if not aug.ENABLED:
        return {}
    views, results = DetectorWithTTA(model, aug.MIN_SIZES, aug.MAX_SIZE, aug.FLIP), {}
    for name in cfg.DATASETS.TEST:
        mapper = mapper_of(cfg, False) or DatasetMapper(cfg, False)
        mapper.augmentations = AugmentationList([])  # views are resized from the original images
        loader = build_detection_test_loader(cfg, name, mapper=mapper)
        evaluator = COCOEvaluator(name, output_dir=f"{cfg.OUTPUT_DIR}/inference_TTA")
        prefix = f"{name}/" if len(cfg.DATASETS.TEST) > 1 else ""
        results.update(_evaluate(views, loader, evaluator, prefix))
    return results


def read_tta(train: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read ``tta`` of a LazyConfig's section ``train``: arguments of `DetectorWithTTA`, ``None`` without it.

    Args:
        train: the section; ``tta`` may be missing, ``True`` (flipped views of the config's own size), or a mapping.

    Raises:
        ValueError: another key, or a value of another type.
    """
    given = train.get("tta") or {}
    if given is True:
        return {}
    if not isinstance(given, Mapping) or not set(given) <= set(_KEYS):
        raise ValueError(f"train.tta={shown(given)} must be True, or have the keys {list(_KEYS)}")
    return {key: list(value) if key == "min_sizes" else value for key, value in given.items()} or None


def evaluate_lazy(cfg: Any, model: Any) -> dict[str, Any]:
    """Evaluate ``dataloader.test`` of a LazyConfig with the views of ``train.tta``; see `evaluate_yaml`."""
    options = read_tta(cfg.train)
    if options is None:
        return {}
    test = cfg.dataloader.test
    if options.get("min_sizes") and "augmentations" in (test.get("mapper") or {}):
        test.mapper.augmentations = []  # views are resized from the original images
    return _evaluate(DetectorWithTTA(model, **options), instantiate(test), instantiate(cfg.dataloader.evaluator), "")


def _evaluate(views: DetectorWithTTA, loader: Any, evaluator: Any, prefix: str) -> dict[str, Any]:
    with whole_parameters(views.model):  # processes can have different numbers of images
        found = inference_on_dataset(views, loader, evaluator) or {}
    results = {f"{prefix}{kind}_TTA": values for kind, values in found.items()}
    if comm.is_main_process():
        print_csv_format(results)
    return results
