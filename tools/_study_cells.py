"""One cell of a study: its training by the toolbox's own script in a process of its own, and its result."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from _study_configs import CONFIG_NAME, CONFIGS, base_configs, config_file

from fpn_plugins.analysis import evaluate_predictions
from fpn_plugins.analysis.study import Cell, Study, fingerprint
from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically

ROOT = CONFIGS.parent
PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "detectron2", "timm", "pycocotools", "numpy")
KINDS = {"retinanet": ("bbox",), "mask_rcnn": ("bbox", "segm")}
COMPLETE = {
    *("fingerprint", "study", "cell", "config", "options", "data", "scores", "predictions", "curve", "losses"),
    *("seconds", "cost", "versions", "hardware"),
}
PLACEHOLDER = Path("WORK_DIR")
BASE_FOLDER = "CONFIGS_FOLDER"  # in saved configs, which run in any source tree


@dataclass(frozen=True)
class Place:
    """Where a study reads and writes.

    Attributes:
        data: a COCO-format folder.
        root: the study's folder: ``results/CELL.json``, ``cells/CELL/`` with the config and the log.
        gpus: of a training, by the toolbox's own launcher; 0 is one process without a launcher.
    """

    data: Path
    root: Path
    gpus: int = 0

    def result(self, cell: Cell) -> Path:
        """The cell's result file."""
        return self.root / "results" / f"{cell.name}.json"


def identity(study: Study, cell: Cell, place: Place) -> str:
    """Hash of what the cell's result depends on: its config, the config below it, overrides, and the annotations."""
    config = config_file(study, cell, PLACEHOLDER)
    return fingerprint(
        {
            "config": config.replace(str(CONFIGS), ""),
            "base": [path.read_text(encoding="utf-8") for path in base_configs(cell.head, cell.toolbox)],
            "options": study.options.get(cell.toolbox, {}),
            "annotations": [_annotations(place.data, split) for split in ("train", "val")],
        }
    )


@lru_cache
def _annotations(data: Path, split: str) -> str:
    return fingerprint(json.loads(find_split(data, split).ann_file.read_text(encoding="utf-8")))


def finished(study: Study, cell: Cell, place: Place) -> dict[str, Any] | None:
    """The cell's result, if there is a whole one of this very cell."""
    try:
        result = json.loads(place.result(cell).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    whole = isinstance(result, dict) and set(result) >= COMPLETE
    return result if whole and result["fingerprint"] == identity(study, cell, place) else None


def adopt(study: Study, cells: list[Cell], place: Place, file: Path) -> int:
    """Take over the results that a page's JSON has of these very cells and that are not here; how many those were.

    Raises:
        ValueError: not the JSON file of a study's page.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, list) or not all(isinstance(r, dict) and set(r) >= COMPLETE for r in content):
        raise ValueError(f"{str(file)!r} is not a list of results; expected the JSON file that --page writes")
    by_fingerprint = {result["fingerprint"]: result for result in content}
    taken = 0
    for cell in cells:
        result = by_fingerprint.get(identity(study, cell, place))
        if result is not None and finished(study, cell, place) is None:
            _save(result, place.result(cell))
            taken += 1
    return taken


def _save(result: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


@contextmanager
def claim(cell: Cell, place: Place) -> Iterator[bool]:
    """Whether this process may run the cell; while it does, no other may.

    The operating system drops the claims of processes that are killed, on this machine or on another that shares the
    folder.
    """
    folder = place.root / "cells" / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def run_cell(study: Study, cell: Cell, place: Place) -> dict[str, Any]:
    """Train and evaluate a cell from its beginning, and write its result file.

    Raises:
        ValueError: the toolbox's script failed; shows the end of its log.
    """
    folder = place.root / "cells" / cell.name
    for stale in folder.glob("work-*"):  # of a training that was killed: it would not go on bit for bit
        shutil.rmtree(stale)
    folder.mkdir(parents=True, exist_ok=True)
    config = config_file(study, cell, PLACEHOLDER).replace(str(CONFIGS), BASE_FOLDER)
    measured = train(cell, config, study.options.get(cell.toolbox, {}), place, folder, study.iterations)
    result = {
        "fingerprint": identity(study, cell, place),
        "study": {"title": study.title, "iterations": study.iterations, "evaluations": study.evaluations},
        "cell": asdict(cell),
        "config": config,
        "options": study.options.get(cell.toolbox, {}),
        "data": {"folder": place.data.name, "annotations": [_annotations(place.data, s) for s in ("train", "val")]},
        **measured,
        "cost": cost(study, cell, folder),
        "versions": versions(),
        "hardware": hardware(place),
    }
    _save(result, place.result(cell))
    return result


def train(
    cell: Cell, config: str, options: Mapping[str, Any], place: Place, folder: Path, iterations: int
) -> dict[str, Any]:
    """Run a saved config; scores, a digest of the predictions, learning curve and seconds.

    Args:
        cell: tells toolbox and head.
        config: content of the config file, with ``PLACEHOLDER`` where the toolbox shall write, and
            ``BASE_FOLDER`` where the base configs are.
        options: overrides.
        place: where the data are.
        folder: the config and the log stay there, nothing else does.
        iterations: of the training.
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
    # by pycocotools, for both toolboxes alike and unrounded
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


def command(cell: Cell, config: Path, work_dir: Path, options: Mapping[str, Any], gpus: int) -> list[str]:
    """Arguments of Python that train a config on so many GPUs, on the same images at a time.

    Raises:
        ValueError: a batch that does not spread evenly over the GPUs.
    """
    pairs = [f"{key}={value}" for key, value in options.items()]
    if cell.toolbox == "detectron2":
        # of a port that is free: Detectron2's own is the same for all trainings of a user
        launcher = ["--num-gpus", str(gpus), "--dist-url", "auto"] if gpus else []
        return ["tools/train_net.py", *launcher, "--config-file", str(config), *pairs]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(gpus)] if gpus else []
    if gpus:
        pairs.append(f"train_dataloader.batch_size={_batch_of_each(config, gpus)}")
    end = ["--launcher", "pytorch"] if gpus else []
    overrides = ["--cfg-options", *pairs] if pairs else []
    return [*start, "tools/train.py", str(config), "--work-dir", str(work_dir), *end, *overrides]


def _batch_of_each(config: Path, gpus: int) -> int:
    """mmdet's batch is one GPU's, Detectron2's is that of all."""
    from mmengine.config import Config

    batch = Config.fromfile(config).train_dataloader.batch_size
    if batch % gpus:
        raise ValueError(f"--gpus {gpus} must divide the batch of {batch} images, so that it stays the same batch")
    return batch // gpus


def environment(place: Place) -> dict[str, str]:
    """Of a training: the data, deterministic algorithms, and as many threads as the study's own process has."""
    fixed = {
        "FPN_PLUGINS_COCO": str(place.data),
        "FPN_PLUGINS_CHECK_DATA": "0",  # done once, before the first cell
        "FPN_PLUGINS_DETERMINISTIC": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ, **fixed, "PYTHONPATH": path}


def _run(arguments: list[str], place: Place, log: Path) -> None:
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment(place), stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        finally:
            process.kill()  # an interrupted study leaves no training behind
            process.wait()
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise ValueError(f"{' '.join(arguments)} failed with code {code}; the end of {log}:\n{tail}")


def _predictions(cell: Cell, work_dir: Path) -> dict[str, Path]:
    """Files of the last evaluation's predictions, by kind."""
    if cell.toolbox == "mmdet":
        return {kind: work_dir / f"predictions.{kind}.json" for kind in KINDS[cell.head]}
    return dict.fromkeys(KINDS[cell.head], next(work_dir.rglob("coco_instances_results.json")))


def _digest(file: Path) -> dict[str, Any]:
    """Number and hash of the predictions: equal only if every box and score is, to the last digit."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return {"number": len(found), "sha256": fingerprint(found)}


# of each toolbox: its log, the step, what is to be added to count steps from 1, and name and factor of AP and loss
LOGS: dict[str, tuple[str, str, int, dict[str, tuple[str, float]]]] = {
    "mmdet": ("*/vis_data/scalars.json", "step", 0, {"AP": ("coco/bbox_mAP", 1.0), "loss": ("loss", 1.0)}),
    "detectron2": ("metrics.json", "iteration", 1, {"AP": ("bbox/AP", 0.01), "loss": ("total_loss", 1.0)}),
}


def _log(toolbox: str, work_dir: Path, iterations: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Iteration, and AP (0 to 1) or loss, of each line that the toolbox has logged; mmdet rounds AP to three digits."""
    pattern, step, offset, names = LOGS[toolbox]
    for file in work_dir.glob(pattern):
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            values = {name: line[key] * factor for name, (key, factor) in names.items() if key in line}
            if values:
                yield min(line[step] + offset, iterations), values


def cost(study: Study, cell: Cell, folder: Path) -> dict[str, Any]:
    """Parameters and multiply-adds of the whole detector, from its config."""
    from _detectors import detector_cost

    # the toolboxes' own FPN does the work of ours; Detectron2's takes only sizes that its strides divide
    ours = replace(cell, variant=replace(cell.variant, stock=False))
    path = folder / "cost.py"
    path.write_text(config_file(study, ours, PLACEHOLDER), encoding="utf-8")
    report = detector_cost(str(path), study.image_size, toolbox=cell.toolbox)
    total = report.total()
    return {
        "parameters": total.parameters,
        "macs": total.macs,
        "image_size": list(study.image_size),
        "conditions": list(report.conditions),
        "uncounted": list(report.uncounted),
    }


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    import fpn_plugins

    found = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "fpn_plugins": fpn_plugins.__version__, **found}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a rebuild under another distribution's name
        names = metadata.packages_distributions().get(package, [])
        return f"{metadata.version(names[0])} ({names[0]})" if names else "none"


def hardware(place: Place) -> str:
    """Name and number of the GPUs, or name of the processor with the threads of a training."""
    import torch

    from fpn_plugins.analysis.peak_memory import hardware as name_of

    name = name_of("cuda" if torch.cuda.is_available() else "cpu")
    return f"{place.gpus} x {name}" if place.gpus > 1 else name
