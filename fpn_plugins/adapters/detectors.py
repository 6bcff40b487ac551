"""Load trained detectors of either toolbox, ready to be called with images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..conversion import count_classes
from ..data import assumed_categories
from ..data.coco_folder import category_names, read_coco
from ..inference import Detections, ImagePredictor, InputSettings, ResizeRule
from ..inference.devices import existing_device
from ..packaged import OWN
from ..weights import read_checkpoint, read_class_names
from ..zoo import Zoo
from .hosts import host_of, toolbox_of

if TYPE_CHECKING:
    import numpy as np

# category ids of COCO's 80 classes
COCO_IDS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))


class LoadedDetector(NamedTuple):
    """Detector of either toolbox with its weights, as a function of images that its predictor's ``read`` reads.

    Attributes:
        model: the toolbox's own detector.
        predict: function of an image.
        names: category id -> class name, in the order of the class indices.
        toolbox: ``"mmdet"`` or ``"detectron2"``.
        sources: where size and names come from, for a message.
    """

    model: Any
    predict: ImagePredictor
    names: dict[int, str]
    toolbox: str = ""
    sources: str = ""

    def __call__(self, image: np.ndarray) -> Detections:
        """Detect objects on an image ``H W 3``, RGB, 0..255."""
        return self.predict(image)

    def find(self, image: np.ndarray, min_score: float, image_id: int | str = 0) -> list[dict[str, Any]]:
        """Return detections on an image of at least ``min_score``, in COCO's results format."""
        return self.predict(image).above(min_score).to_coco(image_id, list(self.names))


def load_detector(
    config: str,
    checkpoint: str | os.PathLike[str],
    size: Sequence[int] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    classes: Sequence[str] = (),
    device: str = "cpu",
) -> LoadedDetector:
    """Build a detector and load its weights; nothing in the checkpoint is executed, and no data set is needed.

    Args:
        config: see `Host.build`.
        checkpoint: file of weights, or ``fpn_plugins::NAME`` for the weights that the model zoo publishes.
        size: shorter side and limit of the longer side of the resized image, in pixels; by default, images are resized
            as the config's test pipeline does, or to 800 x 1333 if it has none.
        annotations: COCO annotation file with the categories.
        classes: class names. By default, names are those of the annotation file, the checkpoint, the config's test
            data, COCO's if there are 80 classes, or numbers, in this order.
        device: device to run on, such as ``"cuda"``.

    Raises:
        FileNotFoundError: no such config, checkpoint or annotation file.
        ValueError: the weights do not fit the config, there are more or fewer class names than classes, the config's
            test pipeline cannot be followed and there is no ``size``, or there is no such device.
    """
    toolbox, device = toolbox_of(config), existing_device(device)
    host = host_of(config, toolbox)
    file = find_checkpoint(config, checkpoint)
    annotated = {} if annotations is None else annotated_names(annotations)
    given, stored = list(annotated.values() or classes), read_class_names(file)
    with assumed_categories(given or stored or _numbers(count_classes(read_checkpoint(file)))):
        model = host.load(config, file, device=device)
        settings = host.input_settings(config)
    number, coco = host.num_classes(model), host.coco_names()
    numbers = _numbers(number)
    if given and len(given) != number:
        source = "classes" if annotations is None else f"annotations={os.fspath(annotations)!r}"
        raise ValueError(f"{source} has {len(given)} categories, the detector {number}; found {_listed(given)}")
    candidates = {
        "named by the caller": given,
        "named by the checkpoint": stored,
        "named by the config": () if list(settings.classes) == numbers else settings.classes,
        "named as COCO's": coco,
        "numbered, because no names are known": numbers,
    }
    names, named_by = _choose(number, candidates, coco, settings)
    rule, sized_by = _rule(config, size, settings, toolbox)
    sources = f"images {rule} ({sized_by}), {len(names)} classes ({named_by})"
    predict = host.Predictor(model, rule=rule, reader=settings.reader)
    _check_channels(config, predict)
    return LoadedDetector(model, predict, annotated or names, toolbox, sources)


def _check_channels(config: str, predict: ImagePredictor) -> None:
    """Raise ``ValueError`` for a detector of other images than colors whose config does not say how to read them."""
    model = predict.model
    mean = getattr(model, "pixel_mean", getattr(getattr(model, "data_preprocessor", None), "mean", None))
    channels = 3 if mean is None else mean.numel()
    if channels > 1 and channels != (3 if predict.reader is None else predict.reader.in_chans):
        found = "read as colors" if predict.reader is None else f"read with in_chans={predict.reader.in_chans}"
        raise ValueError(
            f"config {config!r} normalizes {channels} channels, but its test images are {found}; read them by "
            "fpn_plugins.LoadImage in MMDetection, INPUT.FPN_PLUGINS or PixelMapper in Detectron2"
        )


def find_checkpoint(config: str, checkpoint: str | os.PathLike[str]) -> str:
    """Return the path of a checkpoint; ``fpn_plugins::NAME`` is the zoo's for the config's toolbox, see `Zoo`."""
    name = os.fspath(checkpoint)
    if not name.startswith(f"{OWN}::"):
        return name
    return Zoo.read().checkpoint(Path(name.partition("::")[2]).name, toolbox_of(config))


def _listed(names: Sequence[str]) -> str:
    """Return the first names for a message, each shortened."""
    shown = ", ".join(repr(name[:40]) for name in names[:4])
    return f"({shown}, ...)" if len(names) > 4 else f"({shown})"


def _numbers(count: int) -> list[str]:
    """Return numbers in place of names."""
    return [str(index) for index in range(count)]


def annotated_names(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read the categories of an annotation file, id -> name in ascending order; ``ValueError`` for double ids."""
    content = read_coco(path, named=True)
    names, ids = category_names(content), sorted(category["id"] for category in content["categories"])
    if len(set(ids)) < len(ids):
        raise ValueError(f"annotations={os.fspath(path)!r} has category ids more than once: {ids}; number them anew")
    return dict(zip(ids, names, strict=True))


def _choose(
    number: int, candidates: Mapping[str, Sequence[str]], coco: Sequence[str], settings: InputSettings
) -> tuple[dict[int, str], str]:
    """Choose the first of several lists of names that has the right length, and category ids for it where known.

    Args:
        number: number of the detector's classes.
        candidates: where names come from -> names.
        coco: names of COCO's classes.
        settings: settings of the config, with its data set's ids.
    """
    source, names = next((source, list(names)) for source, names in candidates.items() if len(names) == number)
    ids: Sequence[int] = range(number)
    if names == list(settings.classes) and settings.category_ids:
        ids = settings.category_ids
    elif names == list(coco):
        ids = COCO_IDS
    return dict(zip(ids, names, strict=True)), source


def _rule(config: str, size: Sequence[int] | None, settings: InputSettings, toolbox: str) -> tuple[ResizeRule, str]:
    """Choose the rule by which images are resized, and say where it comes from."""
    default = ResizeRule(library="opencv" if toolbox == "mmdet" else "pillow")
    if size is not None:
        return (settings.rule or default).resized_to(size[0], size[1]), "--size"
    if settings.obstacle:
        raise ValueError(f"config {config!r}: {settings.obstacle}, which is not followed here; give --size SHORT LONG")
    return (settings.rule, "the config's") if settings.rule else (default, "no size in the config")
