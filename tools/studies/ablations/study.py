"""Run an ablation study: a grid of backbones, necks, heads, toolboxes and seeds, one training each.

    study=configs/studies/fpn_ablations.yml
    python tools/studies/ablations/study.py $study [--root FOLDER]              run the missing trainings
    python tools/studies/ablations/study.py $study --only 'fpn-*' '*-c4-*-seed0'
    python tools/studies/ablations/study.py $study --adopt FILE.json            take over results of other machines
    python tools/studies/ablations/study.py $study --summary                    print tables of the results so far
    python tools/studies/ablations/study.py $study --page docs/accuracy.md      and docs/accuracy_details.md
    python tools/studies/ablations/study.py $study --page docs/accuracy.md --results data/accuracy.json
    python tools/studies/ablations/study.py $study --half                       the same with half the iterations
    python tools/studies/ablations/study.py $study --ranking docs/neck_ranking.md
    python tools/studies/ablations/study.py $study --verify fpn-retinanet-mmdet-seed0

Each training runs through ``tools/train.py`` or ``tools/train_net.py`` and writes one file, ``results/CELL.json``, when
it is complete. An interrupted study continues with the interrupted training, from its beginning. A training runs again
when its config, a base config or the annotations have changed. ``--verify`` repeats a finished training from its saved
config and compares AP and predictions to the last digit. ``tools/demo.py --prepare-only`` writes the data and the
weights of the shipped studies. ``--page`` writes pages, pictures, and the results as ``NAME.json``, for a page in
``docs/`` into ``data/`` beside this script; ``--results`` writes the pages again from such a file alone. ``--ranking``
writes a page of what holds in every seed, at full and at half length (``--half``, in a folder of its own).

Several processes of the same command, on one machine or on several that share ``--work-dir``, divide the trainings
among them. ``--gpus N`` runs each training on N GPUs with the toolbox's own launcher and the same total batch; without
it, a training is one process, on a GPU if there is one (``CUDA_VISIBLE_DEVICES`` chooses which).
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpn_plugins.commands.common import user_errors

if TYPE_CHECKING:
    from study_design import Study, StudyCell
    from study_training import StudyFolders

ROOT = Path(__file__).resolve().parents[3]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Run an ablation study, resumably, and summarize it")
    parser.add_argument("study", type=Path, help="YAML file, see configs/studies")
    parser.add_argument("--root", type=Path, default=ROOT / "data/synthetic_coco", help="a COCO-format folder")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/studies/NAME")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="only cells whose name matches")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of each training (default: no launcher)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--adopt", type=Path, metavar="FILE.json", help="take over results that --page wrote")
    what.add_argument("--list", action="store_true", help="list the cells and whether they are done")
    what.add_argument("--summary", action="store_true", help="print tables of the results so far")
    what.add_argument("--page", type=Path, metavar="FILE.md", help="write a page, its pictures and its data")
    what.add_argument("--ranking", type=Path, metavar="FILE.md", help="write a page that ranks the variants")
    what.add_argument("--verify", metavar="CELL", help="run a finished cell again and compare")
    parser.add_argument(
        "--results", type=Path, metavar="FILE.json", help="make --page, --ranking or --summary of published results"
    )
    parser.add_argument("--half", action="store_true", help="trainings of half the length, as --ranking compares")
    parser.add_argument("--baseline", help="variant to compare with (default: the study's)")
    args = parser.parse_args()
    if args.gpus < 0:
        parser.error(f"--gpus {args.gpus} must be 0 or more")
    if args.results and not (args.page or args.ranking or args.summary):
        parser.error("--results is for --page, --ranking and --summary")
    if args.half and (args.page or args.ranking):
        parser.error("--half is for the trainings; --ranking reads both lengths")
    return args


def check_data(place: StudyFolders) -> None:
    """Check the data set before any training starts."""
    from fpn_plugins.data import check_coco, find_split

    for split in ("train", "val"):
        found = find_split(place.data, split)
        print(check_coco(found.ann_file, found.image_dir), flush=True)


def run_missing(study: Study, cells: list[StudyCell], place: StudyFolders) -> None:
    """Run the cells that have no result and that no other process is running.

    Raises:
        ValueError: trainings failed; names them after all others have run.
    """
    from study_cells import claim, finished
    from tqdm import tqdm

    missing = [cell for cell in cells if finished(study, cell, place) is None]
    print(f"{study.title}: {len(cells)} trainings, {len(cells) - len(missing)} of them already done", flush=True)
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


def run_one(study: Study, cell: StudyCell, place: StudyFolders) -> bool:
    """Run a cell and print the outcome; return whether it succeeded."""
    from study_cells import run_cell
    from tqdm import tqdm

    try:
        result = run_cell(study, cell, place)
    except ValueError as error:
        tqdm.write(f"{cell.name}: {error}")
        return False
    tqdm.write(f"{cell.name}: AP {100 * result['scores']['bbox']['AP']:.2f}, {result['seconds']:.0f} s")
    return True


def verify(study: Study, cells: list[StudyCell], name: str, place: StudyFolders) -> None:
    """Run a finished cell again from its saved config.

    Raises:
        ValueError: no such cell, or another AP, or other detections.
    """
    from study_cells import finished
    from study_training import train

    cell = next((cell for cell in cells if cell.name == name), None)
    saved = None if cell is None else finished(study, cell, place)
    if cell is None or saved is None:
        raise ValueError(f"--verify {name!r}: no finished cell of that name; --list shows all cells")
    with tempfile.TemporaryDirectory() as folder:
        again = train(cell, saved["config"], saved["options"], place, Path(folder), saved["study"]["iterations"])
    for key in ("scores", "predictions"):
        if again[key] != saved[key]:
            raise ValueError(f"{name}: {key} differ: {saved[key]} before, {again[key]} now")
    number = saved["predictions"]["bbox"]["number"]
    print(f"{name}: identical to the last digit, AP {saved['scores']['bbox']['AP']!r} and all {number} detections")


def _chosen(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def read_results(
    study: Study, cells: list[StudyCell], place: StudyFolders, published: Path | None
) -> list[dict[str, Any]]:
    """Read the results of the finished cells, or of the published file."""
    from study_cells import finished, read_published

    if published:
        return read_published(published)
    found = (finished(study, cell, place) for cell in cells)
    return [result for result in found if result is not None]


def write_pages(study: Study, results: list[dict[str, Any]], args: argparse.Namespace, place: StudyFolders) -> None:
    """Write the pages; count anchors on the data set, or take the counts beside published results."""
    import json

    from study_anchors import count_anchors
    from study_page import PageFiles, write_page

    counts = PageFiles(args.results.with_suffix(".md")).anchors if args.results else None
    counted = json.loads(counts.read_text(encoding="utf-8")) if counts else count_anchors(study, place.data)
    write_page(study, results, args.page, args.baseline or study.baseline, counted)


def read_both_lengths(study: Study, place: StudyFolders, published: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Read the results of the study and of its half, or those of a ranking's JSON file.

    Raises:
        ValueError: not the JSON file of a ranking.
    """
    import json

    if published:
        content = json.loads(published.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or set(content) != {"full", "half"}:
            raise ValueError(f"{str(published)!r} is not the JSON file that --ranking writes")
        return content
    half = study.half()
    return {
        "full": read_results(study, study.cells(), place, None),
        "half": read_results(half, half.cells(), half_folder(place), None),
    }


def half_folder(place: StudyFolders) -> StudyFolders:
    """Folders of the trainings of half the length."""
    return dataclasses.replace(place, root=place.root / "half")


def main() -> None:
    """Run the command line."""
    args = parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    os.environ["FPN_PLUGINS_COCO"] = str(args.root.resolve())
    with user_errors():
        from study_cells import adopt, finished
        from study_design import read_study
        from study_page import tables
        from study_ranking import write_ranking
        from study_training import StudyFolders

        study = read_study(args.study)
        work_dir = args.work_dir or ROOT / "work_dirs/studies" / args.study.stem
        place = StudyFolders(args.root.resolve(), work_dir.resolve(), args.gpus)
        if args.half:
            study, place = study.half(), half_folder(place)
        cells = [cell for cell in study.cells() if _chosen(cell.name, args.only)]
        if args.list:
            for cell in cells:
                print("done   " if finished(study, cell, place) else "missing", cell.name)
        elif args.adopt:
            print(f"{adopt(study, cells, place, args.adopt)} results of {args.adopt} taken over")
        elif args.verify:
            verify(study, cells, args.verify, place)
        elif args.summary:
            print(tables(study, read_results(study, cells, place, args.results), args.baseline or study.baseline))
        elif args.ranking:
            write_ranking(study, read_both_lengths(study, place, args.results), args.ranking)
        elif args.page:
            write_pages(study, read_results(study, cells, place, args.results), args, place)
        else:
            # exit through an exception, so that the running training is ended too
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
            run_missing(study, cells, place)


if __name__ == "__main__":
    main()
