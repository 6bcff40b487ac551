"""Trainings of the study of recipes: which there are, how each is run, and what is read from its logs."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fpn_plugins.data import find_split
from fpn_plugins.data.coco_folder import read_coco

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
SIZE = (320, 240)
PICTURES = (20, 50, 100, 205)
SEEDS = (0, 1, 2)
# the larger one has the accuracy of a ResNet-50 on ImageNet; weights of a ResNet-50 come with no package
MOBILENET, LARGER = "mobilenetv2_100", "tf_efficientnet_lite2"
RETINANET, TWO_STAGE = "retinanet", "faster_rcnn"
FEW = 60  # up to that many pictures, the recipe is `few`
ITERATIONS = {"recipe": 820, "stock": 820, "reference": 410}  # about five minutes of one core, with MobileNetV2
# logs of the toolboxes, the key of the step, the offset that makes steps count from 1, and the names and factor of AP
LOGS = {
    "mmdet": ("*/vis_data/scalars.json", "step", 0, ("coco/bbox_mAP", "coco/bbox_mAP_50"), 100.0),
    "detectron2": ("metrics.json", "iteration", 1, ("bbox/AP", "bbox/AP50"), 1.0),
    "torchvision": ("metrics.json", "iteration", 0, ("AP", "AP50"), 100.0),
}


@dataclass(frozen=True)
class RecipeCell:
    """One training.

    Attributes:
        method: ``"recipe"``, ``"stock"`` (the toolbox's own anchors, optimizer, schedule and augmentation, with the
            recipe's network and length) or ``"reference"`` (a plain loop with torchvision's RetinaNet).
        toolbox: ``"mmdet"``, ``"detectron2"`` or ``"torchvision"``.
        data: name of the data set.
        backbone: timm network.
        pictures: number of training images; a larger number than there are is all.
        seed: seed of the training and of the choice of images.
        length: factor of `ITERATIONS`.
        detector: detector of a recipe; the other methods have a RetinaNet.
    """

    method: str
    toolbox: str
    data: str
    backbone: str
    pictures: int
    seed: int
    length: int = 1
    detector: str = RETINANET

    @property
    def name(self) -> str:
        """Name of the files of the training."""
        parts = (self.method, self.toolbox, self.data, self.backbone, self.pictures, f"seed{self.seed}")
        other = (
            f"-x{self.length}" if self.length > 1 else "",
            "" if self.detector == RETINANET else f"-{self.detector}",
        )
        return "-".join(map(str, parts)) + "".join(other)

    @property
    def iterations(self) -> int:
        """Length of the training."""
        return self.length * ITERATIONS[self.method]


def all_cells(data: str, second: bool = False) -> list[RecipeCell]:
    """List the trainings on a data set.

    Numbers of pictures are compared in one toolbox, with three seeds, as is a second data set with all pictures; the
    other toolbox, a larger network and a two-stage detector have all pictures and one seed.
    """
    most = PICTURES[-1]
    methods = ("recipe", "stock")
    if second:
        cells = [RecipeCell(m, "mmdet", data, MOBILENET, 10**6, s) for s in SEEDS for m in methods]
        return [*cells, RecipeCell("reference", "torchvision", data, MOBILENET, 10**6, 0)]
    cells = [RecipeCell(m, "mmdet", data, MOBILENET, p, s) for s in SEEDS for p in reversed(PICTURES) for m in methods]
    cells += [RecipeCell(m, "detectron2", data, MOBILENET, most, 0) for m in methods]
    cells += [RecipeCell("reference", "torchvision", data, MOBILENET, most, s) for s in SEEDS]
    cells += [RecipeCell(m, "mmdet", data, LARGER, most, 0) for m in methods]
    cells += [RecipeCell("recipe", t, data, MOBILENET, most, 0, 1, TWO_STAGE) for t in ("mmdet", "detectron2")]
    return cells


def prepare_data(root: Path, cell: RecipeCell, folder: Path) -> Path:
    """Write a folder with some of the training images, chosen by the seed, that refers to the same files."""
    content = read_coco(find_split(root, "train").ann_file)
    used = sorted({entry["image_id"] for entry in content["annotations"]})
    if cell.pictures < len(used):
        used = random.Random(cell.seed).sample(used, cell.pictures)
    chosen = set(used)
    parts = {key: [e for e in content[key] if e[name] in chosen] for key, name in _KEYS.items()}
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations/train.json").write_text(json.dumps({**content, **parts}))
    val = find_split(root, "val")
    (folder / "annotations/val.json").write_text(val.ann_file.read_text())
    for name, images in (("train", find_split(root, "train").image_dir), ("val", val.image_dir)):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(images.resolve())
    return folder


_KEYS = {"images": "id", "annotations": "image_id"}


def command(cell: RecipeCell, data: Path, weights: Path | None, work_dir: Path) -> list[str]:
    """Return the arguments of Python that run a training."""
    given = [] if weights is None else ["--weights", str(weights)]
    if cell.method == "reference":
        script = [str(HERE / "recipe_reference.py"), "--root", str(data), "--iterations", str(cell.iterations)]
        return [*script, "--backbone", cell.backbone, *given, "--seed", str(cell.seed), "--out", str(work_dir)]
    own = ["--iterations", str(cell.iterations), "--toolbox", cell.toolbox]
    options = ["--backbone", cell.backbone, *given, "--seed", str(cell.seed), "--work-dir", str(work_dir)]
    kind = ["--stock"] if cell.method == "stock" else []
    planned = ["--data", str(data), "--recipe", "few" if cell.pictures <= FEW else "small", "--size", *map(str, SIZE)]
    planned += ["--detector", cell.detector]
    return [str(HERE / "recipe_training.py"), *own, *kind, *planned, *options]


def run_cell(cell: RecipeCell, root: Path, weights: Path | None, folder: Path, threads: int) -> dict[str, Any]:
    """Run a training; return its curve, its last scores, and the time of the processor that it took.

    Raises:
        ValueError: the training failed; shows the end of its log.
    """
    data, work_dir = prepare_data(root, cell, folder / "data"), folder / "work"
    log = folder / "train.log"
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "FPN_PLUGINS_COCO": ""}
    before = _core_seconds()
    with log.open("w") as file:
        arguments = [sys.executable, *command(cell, data, weights, work_dir)]
        code = subprocess.run(arguments, cwd=folder, env=env, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ValueError(f"{cell.name} failed with code {code}; the end of {log}:\n{tail}")
    curve = list(read_curve(cell.toolbox, work_dir))
    if not curve:
        raise ValueError(f"{cell.name}: no evaluation in the logs of {work_dir}")
    seconds = round(_core_seconds() - before, 1)
    return {"cell": asdict(cell), "iterations": cell.iterations, "core_seconds": seconds, "curve": curve}


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_curve(toolbox: str, work_dir: Path) -> Iterator[dict[str, float]]:
    """Yield iteration, AP and AP50 (0 to 100) of each evaluation."""
    pattern, step, offset, names, factor = LOGS[toolbox]
    for file in sorted(work_dir.glob(pattern)):
        for line in map(json.loads, file.read_text().splitlines()):
            if names[0] in line:
                values = {key: round(factor * line[name], 2) for key, name in zip(("AP", "AP50"), names, strict=True)}
                yield {"iteration": line[step] + offset, **values}
