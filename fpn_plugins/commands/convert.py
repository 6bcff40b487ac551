"""Convert a detector's weights to the other toolbox, or between a toolbox's own modules and this package's.

    python tools/convert_checkpoint.py CHECKPOINT OUTPUT --config TARGET_CONFIG [--source-config CONFIG]

``TARGET_CONFIG`` is the config, of either toolbox, of the detector that will read OUTPUT: ``configs/detectron2/x.py``,
``mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py``, ``detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml``. Every
parameter of this detector gets a value, or nothing is written. ``--source-config`` also compares settings that
checkpoints do not contain: pixel normalization, anchors, number of classes, box coders, pooling, strides, the ReLU
before P7.

OUTPUT is ``.pth`` (both toolboxes), ``.pkl`` (Detectron2) or ``.safetensors`` (this package's tools). It also contains
the class names, if the checkpoint or a config has them. Checkpoints are read without executing what is pickled in them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..adapters.config_errors import trying
from ..adapters.hosts import host_of, toolbox_of
from ..conversion import convert, count_classes
from ..conversion.tables import toolbox_of_keys
from ..data import assumed_categories
from ..files import suffix_of
from ..weights import read_checkpoint, read_class_names, write_checkpoint
from .common import INDEX, add_pairs, file_of, user_errors

SUFFIXES = (".pth", ".pkl", ".safetensors")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Convert a detector's checkpoint between MMDetection and Detectron2")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of either toolbox; .pth, .pkl, .safetensors")
    parser.add_argument("output", type=file_of(*SUFFIXES), help=".pth, .pkl (Detectron2) or .safetensors")
    parser.add_argument("--config", required=True, help="config of the detector that will read the output")
    add_pairs(parser, "--options", "overrides of --config")
    parser.add_argument("--source-config", help="config that the checkpoint was trained with, to compare with --config")
    parser.add_argument("--mask-stage", type=INDEX, help="stage of mmdet's Cascade Mask R-CNN whose mask head is used")
    parser.add_argument("--force", action="store_true", help="write even if the two configs differ")
    return parser.parse_args(argv)


def convert_weights(
    weights: Mapping[str, Tensor],
    config: str,
    source_config: str | None = None,
    options: Sequence[str] = (),
    mask_stage: int | None = None,
    force: bool = False,
) -> dict[str, Tensor]:
    """Convert a state dict for the detector of a config; arguments are those of the command line.

    Raises:
        ValueError: the settings differ, or the weights do not fill the detector; lists the differences.
    """
    if source_config is not None and (found := toolbox_of(source_config)) != (own := toolbox_of_keys(weights)):
        raise ValueError(f"--source-config {source_config} is a config of {found}, the checkpoint one of {own}")
    host = host_of(config)
    with trying(f"config {config!r}", RuntimeError):
        target = host.build(config, options)
    facts = host.detector_facts(target)
    result, conversion = convert(weights, target.state_dict(), facts.num_ratios, mask_stage)
    print(conversion)
    if source_config is None:
        print(f"settings were not compared, because --source-config is missing; the target has: {facts}")
        return result
    source = host_of(source_config)
    with trying(f"config {source_config!r}", RuntimeError):
        original = source.build(source_config)
    differences = source.detector_facts(original).differences(facts)
    if differences and not force:
        raise ValueError(
            f"{source_config} and {config} differ, so the weights would yield different detections "
            "(tools/convert_checkpoint.py --force converts them anyway):\n  " + "\n  ".join(differences)
        )
    return result


def configured_classes(number: int, *configs: str | None) -> tuple[str, ...]:
    """Return the class names in the test data of the first config that names ``number`` of them."""
    settings = (host_of(config).input_settings(config) for config in configs if config)
    return next((found.classes for found in settings if len(found.classes) == number), ())


def main(argv: Sequence[str] | None = None) -> None:
    """Read, convert and write a checkpoint."""
    args = parse_args(argv)
    with user_errors():
        toolbox = toolbox_of(args.config)
        if suffix_of(args.output) == ".pkl" and toolbox == "mmdet":
            raise ValueError(f"output={str(args.output)!r}: mmdet does not read .pkl; write a .pth")
        weights = read_checkpoint(args.checkpoint)
        stored = read_class_names(args.checkpoint)
        with assumed_categories(stored or [str(index) for index in range(count_classes(weights))]):
            converted = convert_weights(
                weights, args.config, args.source_config, args.options, args.mask_stage, args.force
            )
            classes = stored or configured_classes(count_classes(weights), args.source_config, args.config)
        container = "model" if toolbox == "detectron2" else "state_dict"
        print(f"wrote {write_checkpoint(converted, args.output, container, classes)}")
