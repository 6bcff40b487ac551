"""Build, load and run whole detectors of either toolbox through one protocol, and count their cost.

`host_of` finds the toolbox of a config; its `Host` hides what the toolboxes do differently. A detector's cost is
counted part by part on the meta device. The steps between the parts (selecting proposals, sampling region features)
have no weights and depend on values; they are replaced by the largest number of regions that the config allows, which
the report states as a condition.
"""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ..analysis import CostReport, count_cost, on_meta
from ..conversion import DetectorFacts
from ..data.coco_folder import category_names, read_coco
from ..export import ExportableDetector
from ..extras import quiet_imports
from ..files import suffix_of
from ..inference import AnnotatedImage, Detections, ImagePredictor, InputSettings, load_weights
from ..inference.engines import SUFFIXES
from ..moved import check_config
from ..packaged import OWN, resolve_config
from .config_errors import reading, trying

HOSTS = ("mmdet", "detectron2")


class Host(Protocol):
    """Interface of the modules ``adapters.<host>.detector``; ``Predictor`` is the toolbox's `ImagePredictor`."""

    Predictor: type[ImagePredictor]

    def build(self, config: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
        """Build the detector of a config with freshly initialized weights; no weight file is read.

        Args:
            config: a config file, ``fpn_plugins::<host>/NAME`` for one of this package, or ``<host>::NAME`` for one
                of the toolbox itself.
            options: overrides, ``KEY=VALUE``.
            device: device to build on; ``"meta"`` allocates nothing.
        """

    def load(self, config: str, checkpoint: str, options: Sequence[str] = (), device: str = "cpu") -> nn.Module:
        """Build a detector in evaluation mode with all of its weights from a file; nothing in the file is executed.

        Raises:
            ValueError: the file's weights are not exactly the detector's.
        """

    def batch(self, images: Sequence[AnnotatedImage]) -> Any:
        """Collate images as the toolbox's data loader does."""

    def detect(self, detector: nn.Module, images: Sequence[AnnotatedImage]) -> list[Detections]:
        """Detect objects on each image, postprocessing included."""

    def losses(self, detector: nn.Module, images: Sequence[AnnotatedImage]) -> tuple[Tensor, dict[str, float]]:
        """Run a training step's forward pass with preprocessing; return the total loss, and each loss by name."""

    def run_parts(self, detector: nn.Module, images: Tensor) -> Sequence[str]:
        """Run backbone, neck and heads on ``B 3 H W``; return the conditions under which their cost holds."""

    def detector_facts(self, model: Any) -> DetectorFacts:
        """Collect the settings that must agree between two detectors besides their weights."""

    def input_settings(self, config: str, options: Sequence[str] = ()) -> InputSettings:
        """Read the size of images and the classes from the test data of a config; the data itself is not needed."""

    def num_classes(self, model: Any) -> int:
        """Return the number of thing classes."""

    def exportable(
        self, detector: nn.Module, normalized: bool = False, masks: str = "probabilities"
    ) -> ExportableDetector:
        """Turn a built detector into a module that exporters can record; it shares the detector's weights.

        Args:
            detector: the toolbox's detector; it is set to evaluation mode.
            normalized: whether the images given to the result are normalized already.
            masks: ``"probabilities"`` of the cells of each box, or ``"pasted"`` into the image; of no effect on a
                detector without masks.

        Raises:
            ValueError: a detector, head or setting that cannot be exported; the message names the module.
        """

    def coco_names(self) -> list[str]:
        """Return the names of COCO's classes as the toolbox spells them."""


def toolbox_of(config: str) -> str:
    """Find the toolbox of a config by its prefix, its suffix, or its imports, which mark a LazyConfig file.

    Raises:
        FileNotFoundError: no such config.
    """
    owner, prefixed, _ = config.partition("::")
    if prefixed and owner != OWN:
        return owner
    config = resolve_config(config)
    check_config(config)
    if not Path(config).is_file():
        raise FileNotFoundError(
            f"config {config!r} is not a file; name a toolbox's own config mmdet::NAME or detectron2::NAME, and "
            "one of this package fpn_plugins::mmdet/NAME"
        )
    if suffix_of(config) in (".yaml", ".yml"):
        return "detectron2"
    with reading(config):
        tree = ast.parse(_text_of(config))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    lazy = any(node.level or (node.module or "").split(".")[0] == "detectron2" for node in imports)
    return "detectron2" if lazy else "mmdet"


def _text_of(config: str) -> str:
    """Return the text of a config; ``ValueError`` for a file that is no text."""
    try:
        return Path(config).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"config {config!r} is no text; expected a config .py or .yaml, or, in predict and evaluate, an exported "
            f"detector {', '.join(SUFFIXES)} without a config"
        ) from error


def check_toolbox(config: str, toolbox: str) -> None:
    """Raise ``ValueError`` with the right command if a file is certainly a config of the other toolbox."""
    if not Path(config).is_file():
        return
    names = {"_base_", "default_scope", "read_base"}
    found = toolbox_of(config)
    if found == "mmdet":  # what is no LazyConfig is not yet mmdet's
        tree = ast.parse(Path(config).read_text(encoding="utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        found = "mmdet" if names & used else toolbox
    if found != toolbox:
        commands = {"mmdet": "fpn-plugins train or test", "detectron2": "fpn-plugins train-d2 --config-file"}
        raise ValueError(f"config {config!r} is a config of {found}, not of {toolbox}; run it with {commands[found]}")


def host_of(config: str, toolbox: str | None = None) -> Host:
    """Import the `Host` of ``toolbox``, by default of `toolbox_of` the config.

    Raises:
        FileNotFoundError: no such config.
        ValueError: an unknown toolbox.
        ImportError: the toolbox is not installed; names the extra to install.
    """
    name = toolbox or toolbox_of(config)
    if name not in HOSTS:
        raise ValueError(f"config {config!r}: toolbox {name!r} is unknown, choose one of {HOSTS}")
    with quiet_imports():
        return cast(Host, importlib.import_module(f"{__package__}.{name}.detector"))


def detector_cost(
    config: str, image_size: tuple[int, int], options: Sequence[str] = (), toolbox: str | None = None
) -> CostReport:
    """Count the cost of a detector's inference on one image, from its config alone.

    Args:
        config: see `Host.build`.
        image_size: height and width in pixels, after resizing and padding.
        options: see `Host.build`.
        toolbox: see `host_of`.

    Raises:
        FileNotFoundError: no such config.
        ValueError: a kind of detector whose parts are not known.
    """
    toolbox = toolbox or toolbox_of(config)
    host = host_of(config, toolbox)
    with trying(f"config {config!r}", RuntimeError):
        model: nn.Module = on_meta(lambda: host.build(config, options, "meta"))
    images = torch.empty(1, 3, *image_size, device="meta")

    def run() -> Sequence[str]:
        with torch.device("meta"):
            return host.run_parts(model, images)

    with trying(f"config {config!r} at {image_size[0]} x {image_size[1]} pixels", RuntimeError):
        return count_cost(model, run, f"{Path(config.split('::')[-1]).stem} ({toolbox})", image_size)


def check_weights(config: str, weights: Mapping[str, Tensor], checkpoint: str, toolbox: str | None = None) -> None:
    """Check that a state dict is exactly the detector's of a config, without allocating the detector.

    Args:
        config: see `Host.build`.
        weights: names and tensors.
        checkpoint: file that the weights come from, for messages.
        toolbox: see `host_of`.

    Raises:
        ValueError: parameters are missing, left over, or of other shapes.
    """
    host = host_of(config, toolbox)
    with trying(f"config {config!r}", RuntimeError):
        detector = on_meta(lambda: host.build(config, (), "meta"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")  # only names and shapes matter
        load_weights(detector, weights, checkpoint, config)


def build_detector(config: str, options: Sequence[str] = ()) -> nn.Module:
    """Build the detector of a config of either toolbox on the CPU, see `Host.build`."""
    host = host_of(config)
    with trying(f"config {config!r}", RuntimeError):
        return host.build(config, options)


def class_names(config: str, detector: nn.Module, annotations: Path | None = None) -> list[str]:
    """Return a detector's class names: those of an annotation file, COCO's if the number matches, or numbers.

    Raises:
        FileNotFoundError: no such annotation file.
        ValueError: it is not a COCO file, or the numbers of its categories and of the detector's classes differ.
    """
    host = host_of(config)
    number = host.num_classes(detector)
    if annotations is not None:
        names = list(category_names(read_coco(annotations, named=True)))
        if len(names) != number:
            raise ValueError(f"annotations={str(annotations)!r} has {len(names)} categories, the detector {number}")
        return names
    names = host.coco_names()
    return names if len(names) == number else [str(index) for index in range(number)]
