"""Run the cells of a study, share them among processes, and read and write their results."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from study_bases import CONFIGS, base_configs, base_content
from study_configs import config_file
from study_design import Study, StudyCell, fingerprint
from study_training import BASE_FOLDER, PLACEHOLDER, StudyFolders, train

from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically

PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "detectron2", "timm", "pycocotools", "numpy")
COMPLETE = {
    *("fingerprint", "study", "cell", "config", "options", "data", "scores", "predictions", "curve", "losses"),
    *("seconds", "cost", "versions", "hardware"),
}


def identity(study: Study, cell: StudyCell, place: StudyFolders) -> str:
    """Hash everything that the cell's result depends on: its config, base configs, overrides, and annotations."""
    config = config_file(study, cell, PLACEHOLDER)
    return fingerprint(
        {
            "config": config.replace(str(CONFIGS), ""),
            "base": [base_content(path) for path in base_configs(cell.head, cell.toolbox)],
            "options": study.options.get(cell.toolbox, {}),
            "annotations": [_annotations(place.data, split) for split in ("train", "val")],
        }
    )


@lru_cache
def _annotations(data: Path, split: str) -> str:
    return fingerprint(json.loads(find_split(data, split).ann_file.read_text(encoding="utf-8")))


def finished(study: Study, cell: StudyCell, place: StudyFolders) -> dict[str, Any] | None:
    """Read the cell's result; `None` if it is missing, incomplete, or of another config."""
    try:
        result = json.loads(place.result(cell).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    whole = isinstance(result, dict) and set(result) >= COMPLETE
    return result if whole and result["fingerprint"] == identity(study, cell, place) else None


def read_published(file: Path) -> list[dict[str, Any]]:
    """Read a page's JSON file; that of a ranking has the results of both lengths.

    Raises:
        ValueError: not the JSON file of a study's page.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, dict) and set(content) == {"full", "half"}:
        content = [*content["full"], *content["half"]]
    if not isinstance(content, list) or not all(isinstance(r, dict) and set(r) >= COMPLETE for r in content):
        raise ValueError(f"{str(file)!r} is not a list of results; give the JSON file that --page writes")
    return content


def adopt(study: Study, cells: list[StudyCell], place: StudyFolders, file: Path) -> int:
    """Take over the results in a page's JSON file of cells that are not finished here; return their number.

    Raises:
        ValueError: not the JSON file of a study's page.
    """
    by_fingerprint = {result["fingerprint"]: result for result in read_published(file)}
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
def claim(cell: StudyCell, place: StudyFolders) -> Iterator[bool]:
    """Claim a cell for this process; yield whether no other process has claimed it.

    The operating system drops the claim of a killed process, on this machine or on another that shares the folder. A
    training inherits the claim of its study, so that a training that outlives its study keeps others away.
    """
    folder = place.root / "cells" / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("a") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def run_cell(study: Study, cell: StudyCell, place: StudyFolders) -> dict[str, Any]:
    """Train and evaluate a cell from its beginning, and write its result file.

    Raises:
        ValueError: the toolbox's script failed; shows the end of its log.
    """
    folder = place.root / "cells" / cell.name
    for stale in folder.glob("work-*"):  # left by a killed training, which could not continue bit for bit
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
        "hardware": training_hardware(place),
    }
    _save(result, place.result(cell))
    return result


def cost(study: Study, cell: StudyCell, folder: Path) -> dict[str, Any]:
    """Count parameters and multiply-adds of the whole detector from its config."""
    from fpn_plugins.adapters.hosts import detector_cost

    # the toolboxes' own FPN has the cost of ours; Detectron2's takes only sizes that its strides divide
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
    """Versions of Python and of the packages that a result depends on."""
    import fpn_plugins

    found = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "fpn_plugins": fpn_plugins.__version__, **found}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a rebuild distributed under another name
        names = metadata.packages_distributions().get(package, [])
        return f"{metadata.version(names[0])} ({names[0]})" if names else "none"


def training_hardware(place: StudyFolders) -> str:
    """Name and number of the GPUs, or name of the processor and threads of a training."""
    import torch

    from fpn_plugins.analysis.peak_memory import hardware

    name = hardware("cuda" if torch.cuda.is_available() else "cpu")
    return f"{place.gpus} x {name}" if place.gpus > 1 else name
