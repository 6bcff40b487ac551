"""Train a study's cell from a saved config, with the toolbox's own script in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_bases import CONFIG_NAME, CONFIGS
from study_design import StudyCell, fingerprint

from fpn_plugins.analysis import evaluate_predictions
from fpn_plugins.data import find_split

ROOT = CONFIGS.parent
KINDS = {"retinanet": ("bbox",), "mask_rcnn": ("bbox", "segm")}
PLACEHOLDER = Path("WORK_DIR")
BASE_FOLDER = "CONFIGS_FOLDER"  # stands for the configs folder in saved configs, which run in any source tree


@dataclass(frozen=True)
class StudyFolders:
    """Folders and devices of a study.

    Attributes:
        data: a COCO-format folder.
        root: folder of the study: ``results/CELL.json``, and ``cells/CELL/`` with the config and the log.
        gpus: GPUs of a training, started by the toolbox's own launcher; 0 is one process without a launcher.
    """

    data: Path
    root: Path
    gpus: int = 0

    def result(self, cell: StudyCell) -> Path:
        """Path of the cell's result file."""
        return self.root / "results" / f"{cell.name}.json"


def train(
    cell: StudyCell, config: str, options: Mapping[str, Any], place: StudyFolders, folder: Path, iterations: int
) -> dict[str, Any]:
    """Train from a saved config; return scores, digests of the predictions, learning curve, losses and seconds.

    Args:
        cell: gives toolbox and head.
        config: content of the config file, with ``PLACEHOLDER`` for the output folder and ``BASE_FOLDER`` for the
            folder of the base configs.
        options: overrides of the config.
        place: gives the data and the number of GPUs.
        folder: where the config and the log stay; everything else is removed.
        iterations: length of the training.
    """
    work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=folder)).resolve()
    path = folder / CONFIG_NAME
    config = config.replace(str(PLACEHOLDER), str(work_dir)).replace(BASE_FOLDER, str(CONFIGS))
    path.write_text(config, encoding="utf-8")
    start = time.monotonic()
    _run(command(cell, path, work_dir, options, place.gpus), place, folder / "train.log")
    seconds = time.monotonic() - start
    files = _predictions(cell, work_dir)
    ann_file = find_split(place.data, "val").ann_file
    # evaluated the same way for both toolboxes, and not rounded
    scores = {kind: evaluate_predictions(ann_file, file, kind) for kind, file in files.items()}
    digests = {kind: _digest(file) for kind, file in files.items()}
    points = list(_log(cell.toolbox, work_dir, iterations))
    shutil.rmtree(work_dir)
    return {
        "scores": scores,
        "predictions": digests,
        "curve": [{"iteration": at, "AP": values["AP"]} for at, values in points if "AP" in values],
        "losses": [{"iteration": at, "loss": values["loss"]} for at, values in points if "loss" in values],
        "seconds": round(seconds, 1),
    }


def command(cell: StudyCell, config: Path, work_dir: Path, options: Mapping[str, Any], gpus: int) -> list[str]:
    """Build the arguments of Python that train a config on a number of GPUs with the config's total batch.

    Raises:
        ValueError: the GPUs do not divide the batch.
    """
    pairs = [f"{key}={value}" for key, value in options.items()]
    if cell.toolbox == "detectron2":
        # find a free port: Detectron2's default is the same for all trainings of a user
        launcher = ["--num-gpus", str(gpus), "--dist-url", "auto"] if gpus else []
        return ["tools/train_net.py", *launcher, "--config-file", str(config), *pairs]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(gpus)] if gpus else []
    if gpus:
        pairs.append(f"train_dataloader.batch_size={_batch_of_each(config, gpus)}")
    end = ["--launcher", "pytorch"] if gpus else []
    overrides = ["--cfg-options", *pairs] if pairs else []
    return [*start, "tools/train.py", str(config), "--work-dir", str(work_dir), *end, *overrides]


def _batch_of_each(config: Path, gpus: int) -> int:
    """Images per GPU, which is what mmdet's batch size means; Detectron2's is the total."""
    from mmengine.config import Config

    batch = Config.fromfile(config).train_dataloader.batch_size
    if batch % gpus:
        raise ValueError(f"--gpus {gpus} must divide the total batch of {batch} images")
    return batch // gpus


def environment(place: StudyFolders) -> dict[str, str]:
    """Environment variables of a training: the data, deterministic algorithms, and the study's number of threads."""
    fixed = {
        "FPN_PLUGINS_COCO": str(place.data),
        "FPN_PLUGINS_CHECK_DATA": "0",  # done once, before the first cell
        "FPN_PLUGINS_DETERMINISTIC": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ, **fixed, "PYTHONPATH": path}


def _run(arguments: list[str], place: StudyFolders, log: Path) -> None:
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(place),
            stdout=file,
            stderr=subprocess.STDOUT,
            close_fds=False,  # only the claim is inheritable, see `claim`
        )
        try:
            code = process.wait()
        finally:
            process.kill()  # an interrupted study leaves no training behind
            process.wait()
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise ValueError(f"{' '.join(arguments)} failed with code {code}; the end of {log}:\n{tail}")


def _predictions(cell: StudyCell, work_dir: Path) -> dict[str, Path]:
    """Find the predictions of the last evaluation, by kind."""
    if cell.toolbox == "mmdet":
        return {kind: work_dir / f"predictions.{kind}.json" for kind in KINDS[cell.head]}
    return dict.fromkeys(KINDS[cell.head], next(work_dir.rglob("coco_instances_results.json")))


def _digest(file: Path) -> dict[str, Any]:
    """Number and hash of the predictions, which are equal only if every box and score is, to the last digit."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return {"number": len(found), "sha256": fingerprint(found)}


# log file of each toolbox, key of the step, offset that makes steps count from 1, and key and factor of AP and loss
LOGS: dict[str, tuple[str, str, int, dict[str, tuple[str, float]]]] = {
    "mmdet": ("*/vis_data/scalars.json", "step", 0, {"AP": ("coco/bbox_mAP", 1.0), "loss": ("loss", 1.0)}),
    "detectron2": ("metrics.json", "iteration", 1, {"AP": ("bbox/AP", 0.01), "loss": ("total_loss", 1.0)}),
}


def _log(toolbox: str, work_dir: Path, iterations: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield iteration and AP (0 to 1) or loss of each logged line; mmdet rounds AP to three digits."""
    pattern, step, offset, names = LOGS[toolbox]
    for file in work_dir.glob(pattern):
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            values = {name: line[key] * factor for name, (key, factor) in names.items() if key in line}
            if values:
                yield min(line[step] + offset, iterations), values
