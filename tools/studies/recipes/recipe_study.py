"""Measure the recipes on a small set of photographs: AP against pictures, toolbox, backbone and time of the processor.

    study=tools/studies/recipes/recipe_study.py
    python $study --root data/bccd --weights data/weights/mobilenetv2_100.safetensors      the missing trainings
    python $study --root data/bccd --weights FILE --only 'recipe-mmdet-*-205-*'            some of them
    python $study --root data/bccd --list                                                  the trainings
    python $study --root data/bccd --json tools/studies/recipes/data/recipes.json          collect the results

Each training writes ``results/NAME.json`` in ``--work-dir`` when it is complete, so that an interrupted study continues
with the missing ones; several processes with the same folder divide the trainings among them. Those with the larger
network need ``--larger-weights``. ``--second`` runs the trainings of a second data set. `tools/benchmarks/published.py`
writes the page, which names what has not been measured.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from recipe_cells import LARGER, REPOSITORY, RecipeCell, all_cells, run_cell
from recipe_page import draw, page

from fpn_plugins.commands.common import COUNT, user_errors, write_json
from fpn_plugins.data import find_split

sys.path.append(str(REPOSITORY / "tools/studies/ablations"))
__all__ = ["draw", "main", "page"]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the recipes, resumably")
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder; its name is the data set's")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the MobileNetV2")
    parser.add_argument(
        "--larger-weights", type=Path, metavar="FILE", help="weights of the larger network, EfficientNet-Lite2"
    )
    parser.add_argument("--work-dir", type=Path, default=REPOSITORY / "work_dirs/studies/recipes")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="only trainings whose name matches")
    parser.add_argument("--threads", type=COUNT, default=1, help="threads of each training (default 1)")
    parser.add_argument("--second", action="store_true", help="the trainings of a second data set")
    parser.add_argument("--list", action="store_true", help="list the trainings and whether they are done")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results so far to this file, and stop")
    return parser.parse_args()


def run_missing(cells: list[RecipeCell], args: argparse.Namespace) -> None:
    """Run the trainings that have no result and that no other process is running.

    Raises:
        ValueError: trainings failed; names them after all others have run.
    """
    from study_cells import claim, training_hardware, versions
    from study_training import StudyFolders

    place: Any = StudyFolders(args.root.resolve(), args.work_dir.resolve())
    failed = []
    for cell in cells:
        weights = args.larger_weights if cell.backbone == LARGER else args.weights
        any_cell: Any = cell
        with claim(any_cell, place) as ours:
            if not ours or result_file(args.work_dir, cell).is_file():
                continue
            folder = place.root / "cells" / cell.name
            shutil.rmtree(folder / "work", ignore_errors=True)  # of a training that was killed
            try:
                result = run_cell(cell, args.root.resolve(), weights and weights.resolve(), folder, args.threads)
            except ValueError as error:
                print(f"{cell.name}: {error}", flush=True)
                failed.append(cell.name)
                continue
            details = {"hardware": training_hardware(place), "versions": versions(), "threads": args.threads}
            write_json({**result, **details}, result_file(args.work_dir, cell))
            shutil.rmtree(folder / "work")
            print(f"{cell.name}: {result['curve'][-1]}, {result['core_seconds']} s of a core", flush=True)
    if failed:
        raise ValueError(f"{len(failed)} trainings failed: {failed}")


def result_file(work_dir: Path, cell: RecipeCell) -> Path:
    """Return the path of a training's result."""
    return work_dir / "results" / f"{cell.name}.json"


def collect(cells: list[RecipeCell], work_dir: Path, file: Path) -> int:
    """Add the results to the file, in the place of earlier ones of the same trainings; return their number."""
    known = json.loads(file.read_text(encoding="utf-8"))["cells"] if file.is_file() else []
    results = {RecipeCell(**entry["cell"]).name: entry for entry in known}
    found = [result_file(work_dir, cell) for cell in cells]
    for path in filter(Path.is_file, found):
        results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    write_json({"cells": [results[name] for name in sorted(results)]}, file)
    return len(results)


def main() -> None:
    """Run the command line."""
    args = parse_args()
    with user_errors():
        find_split(args.root, "train")
        cells = [cell for cell in all_cells(args.root.resolve().name, args.second) if chosen(cell, args.only)]
        if args.list:
            for cell in cells:
                print("done   " if result_file(args.work_dir, cell).is_file() else "missing", cell.name)
        elif args.json:
            print(f"{collect(cells, args.work_dir, args.json)} results in {args.json}")
        else:
            run_missing(cells, args)


def chosen(cell: RecipeCell, patterns: list[str]) -> bool:
    """Return whether a training's name matches one of the patterns, or there is none."""
    return not patterns or any(fnmatch.fnmatch(cell.name, pattern) for pattern in patterns)


def missing(report: dict[str, Any]) -> list[str]:
    """Name the trainings on the first data set that a report lacks."""
    measured = {RecipeCell(**entry["cell"]) for entry in report["cells"]}
    return [cell.name for cell in all_cells("bccd") if cell not in measured]


if __name__ == "__main__":
    main()
