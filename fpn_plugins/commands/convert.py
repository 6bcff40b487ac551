"""Move the weights of a whole detector to the other toolbox, or between a toolbox's own modules and this package's.

    python tools/convert_checkpoint.py CHECKPOINT OUTPUT --config TARGET_CONFIG [--source-config CONFIG]

``TARGET_CONFIG`` is the config (of either toolbox) of the detector that is to read OUTPUT: ``configs/detectron2/x.py``,
``mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py``, ``detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml``. Every
parameter of it gets its value, or nothing is written. With ``--source-config`` what no checkpoint holds is compared
too: pixels, anchors, number of classes, box coders, pooling, strides, the ReLU before P7.

OUTPUT is ``.pth`` (both toolboxes), ``.pkl`` (Detectron2) or ``.safetensors`` (this package's tools). Checkpoints are
read without executing what is pickled in them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..adapters.hosts import build_detector, host_of, toolbox_of
from ..conversion import convert
from ..weights import read_checkpoint, write_checkpoint
from .common import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Convert a detector's checkpoint between MMDetection and Detectron2")
    parser.add_argument(
        "checkpoint", type=Path, help="mmdet's, Detectron2's or this package's; .pth, .pkl, .safetensors"
    )
    parser.add_argument("output", type=Path, help=".pth, .pkl (Detectron2) or .safetensors")
    parser.add_argument("--config", required=True, help="config of the detector that is to read the output")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of --config")
    parser.add_argument("--source-config", help="config that the checkpoint was trained with, to compare what it lacks")
    parser.add_argument(
        "--mask-stage", type=int, help="of mmdet's Cascade Mask R-CNN, the stage whose mask head to take"
    )
    parser.add_argument("--trusted", action="store_true", help="execute what is pickled in the checkpoint")
    parser.add_argument("--force", action="store_true", help="write although the two configs differ")
    return parser.parse_args()


def main() -> None:
    """Read, convert, compare, write."""
    args = parse_args()
    with user_errors():
        if args.output.suffix == ".pkl" and toolbox_of(args.config) == "mmdet":
            raise ValueError(f"output={str(args.output)!r}: mmdet reads no .pkl; write a .pth")
        weights = read_checkpoint(args.checkpoint, trusted=args.trusted)
        target = build_detector(args.config, args.options)
        num_ratios = host_of(args.config).detector_facts(target).num_ratios
        result, conversion = convert(weights, target.state_dict(), num_ratios, args.mask_stage)
        print(conversion)
        differences = compare(args.source_config, args.config, target)
        if differences and not args.force:
            raise ValueError(
                f"{args.source_config} and {args.config} differ, so the weights would give other detections (--force "
                "writes them nevertheless):\n  " + "\n  ".join(differences)
            )
        container = "model" if toolbox_of(args.config) == "detectron2" else "state_dict"
        print(f"wrote {write_checkpoint(result, args.output, container)}")


def compare(source_config: str | None, config: str, target: object) -> list[str]:
    """Print what the target is; return in what the source differs."""
    facts = host_of(config).detector_facts(target)
    if source_config is None:
        print(f"not compared, as there is no --source-config; the target has: {facts}")
        return []
    host = host_of(source_config)
    return host.detector_facts(host.build(source_config)).differences(facts)
