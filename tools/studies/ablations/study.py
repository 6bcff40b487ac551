"""Run an ablation study: a grid of backbones, necks, heads, toolboxes and seeds, one training each.

    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml [--data FOLDER]      # trains what is missing
    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --only 'fpn-*' '*-c4-*-seed0'
    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --adopt docs/accuracy.json  # results of other machines
    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --summary            # tables of what is there
    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --page docs/accuracy.md
    python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --verify fpn-retinanet-mmdet-seed0

Each training runs by ``tools/train.py`` or ``tools/train_net.py`` and leaves one file, ``results/CELL.json``, when it
is complete: a study that was stopped goes on with the training at which it was, from the beginning of that one. A
training runs again when its config, the config below it, or the annotations have changed. ``--verify`` runs a finished
one again from its saved config and compares AP and predictions to the last digit. The data and the weights of the
shipped studies are made by ``tools/demo.py --prepare-only``.

The same command, started several times on one machine or on several that share ``--work-dir``, shares the trainings
out: each takes those that no other has. ``--gpus N`` trains each on N GPUs by the toolbox's own launcher, at the same
batch; without it a training is one process, on a GPU where there is one (``CUDA_VISIBLE_DEVICES`` says which).
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpn_plugins.commands.common import user_errors

if TYPE_CHECKING:
    from study_design import Cell, Study
    from study_training import Place

ROOT = Path(__file__).resolve().parents[3]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run an ablation study, resumably, and summarise it")
    parser.add_argument("study", type=Path, help="YAML file, see configs/studies")
    parser.add_argument("--data", type=Path, default=ROOT / "data/synthetic_coco", help="a COCO-format folder")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/studies/NAME")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="cells whose name matches one")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="of each training (default: no launcher)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--adopt", type=Path, metavar="FILE.json", help="take over results that --page has written")
    what.add_argument("--list", action="store_true", help="list the cells and which are done")
    what.add_argument("--summary", action="store_true", help="print tables of the results that are there")
    what.add_argument("--page", type=Path, metavar="FILE.md", help="write a page, its pictures and its data")
    what.add_argument("--verify", metavar="CELL", help="run a finished cell again and compare")
    parser.add_argument("--baseline", help="variant to compare with (default: the study's)")
    args = parser.parse_args()
    if args.gpus < 0:
        parser.error(f"--gpus {args.gpus} must be 0 or more")
    return args


def check_data(place: Place) -> None:
    """Check the data set once, before the time is spent."""
    from fpn_plugins.data import check_coco, find_split

    for split in ("train", "val"):
        found = find_split(place.data, split)
        print(check_coco(found.ann_file, found.image_dir), flush=True)


def run_missing(study: Study, cells: list[Cell], place: Place) -> None:
    """Run the cells that have no result and that no other process is running.

    Raises:
        ValueError: trainings failed; names them, after all others have run.
    """
    from study_cells import claim, finished
    from tqdm import tqdm

    missing = [cell for cell in cells if finished(study, cell, place) is None]
    print(f"{study.title}: {len(cells)} trainings, {len(cells) - len(missing)} of them done before", flush=True)
    if missing:
        check_data(place)
    failures = []
    with tqdm(missing, unit="training") as bar:
        for cell in bar:
            bar.set_postfix_str(cell.name)
            with claim(cell, place) as ours:
                if not ours:
                    tqdm.write(f"{cell.name}: another process runs it")
                elif finished(study, cell, place) is None and not run_one(study, cell, place):
                    failures.append(cell.name)
    if failures:
        raise ValueError(f"{len(failures)} of {len(missing)} trainings failed: {failures}")


def run_one(study: Study, cell: Cell, place: Place) -> bool:
    """Run a cell and say how it went; whether it went well."""
    from study_cells import run_cell
    from tqdm import tqdm

    try:
        result = run_cell(study, cell, place)
    except ValueError as error:
        tqdm.write(f"{cell.name}: {error}")
        return False
    tqdm.write(f"{cell.name}: AP {100 * result['scores']['bbox']['AP']:.2f}, {result['seconds']:.0f} s")
    return True


def verify(study: Study, cells: list[Cell], name: str, place: Place) -> None:
    """Run a finished cell again from its saved config.

    Raises:
        ValueError: no such cell, or another AP, or another detection.
    """
    from study_cells import finished
    from study_training import train

    cell = next((cell for cell in cells if cell.name == name), None)
    saved = None if cell is None else finished(study, cell, place)
    if cell is None or saved is None:
        raise ValueError(f"--verify {name!r}: no finished cell of that name; --list shows them")
    with tempfile.TemporaryDirectory() as folder:
        again = train(cell, saved["config"], saved["options"], place, Path(folder), saved["study"]["iterations"])
    for key in ("scores", "predictions"):
        if again[key] != saved[key]:
            raise ValueError(f"{name}: {key} differ: {saved[key]} before, {again[key]} now")
    number = saved["predictions"]["bbox"]["number"]
    print(f"{name}: the same to the last digit, AP {saved['scores']['bbox']['AP']!r} and all {number} detections")


def _chosen(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def read_results(study: Study, cells: list[Cell], place: Place) -> list[dict[str, Any]]:
    """Results of the cells that are complete and of this very study."""
    from study_cells import finished

    found = (finished(study, cell, place) for cell in cells)
    return [result for result in found if result is not None]


def main() -> None:
    """Run what the command line asks for."""
    args = parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    os.environ["FPN_PLUGINS_COCO"] = str(args.data.resolve())
    with user_errors():
        from study_cells import adopt, finished
        from study_design import read_study
        from study_page import tables, write_page
        from study_training import Place

        study = read_study(args.study)
        work_dir = args.work_dir or ROOT / "work_dirs/studies" / args.study.stem
        place = Place(args.data.resolve(), work_dir.resolve(), args.gpus)
        cells = [cell for cell in study.cells() if _chosen(cell.name, args.only)]
        if args.list:
            for cell in cells:
                print("done   " if finished(study, cell, place) else "missing", cell.name)
        elif args.adopt:
            print(f"{adopt(study, cells, place, args.adopt)} results of {args.adopt} taken over")
        elif args.verify:
            verify(study, cells, args.verify, place)
        elif args.summary:
            print(tables(study, read_results(study, cells, place), args.baseline or study.baseline))
        elif args.page:
            write_page(study, read_results(study, cells, place), args.page, args.baseline or study.baseline, place.data)
        else:
            # so that the training that runs is ended too
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
            run_missing(study, cells, place)


if __name__ == "__main__":
    main()
