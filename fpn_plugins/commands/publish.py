r"""Publish a trained detector: its weights alone, a model card, and an entry in the model zoo.

    python tools/publish_model.py work_dirs/demo/mmdet/iter_400.pth --name demo_mask_rcnn --results \
        work_dirs/demo/results.json --hardware "2 CPU cores" --data "synthetic set" --schedule "400 iterations" \
        [--convert] [--count 240 320] [--format safetensors] [--url https://HOST/FOLDER | --push-to-hub USER/REPO]

Reads a training checkpoint of either toolbox without executing pickled code, and uses averaged weights if it has them.
NAME is the stem of the model's configs next to the zoo's file. Writes
``OUTPUT_DIR/NAME/<toolbox>/NAME-<hash>.pth``, ``OUTPUT_DIR/NAME/README.md``, and the entry NAME of
``configs/model_zoo.yml``; then run ``tools/docs/model_zoo.py``. ``--convert`` adds the file for the other toolbox.
Everything is read, converted and counted before anything is written.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..adapters.hosts import detector_cost
from ..conversion.tables import TOOLBOXES
from ..files import write_atomically
from ..zoo.hub import hub_url, push_to_hub
from ..zoo.index import SOURCE_FILE, Zoo, sha256_of
from ..zoo.pages import model_card
from ..zoo.publish import SUFFIXES, Trained, clean_checkpoint, read_results, write_published
from ..zoo.records import OWN, Cost, Entry, PublishedResult, Weights
from .common import add_size, user_errors
from .convert import convert_weights


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Publish a trained detector and add it to the model zoo")
    parser.add_argument("checkpoint", type=Path, help="training checkpoint of either toolbox")
    parser.add_argument("--name", required=True, help="stem of the model's configs")
    parser.add_argument("--data", help="training and evaluation data; needed for a new entry")
    parser.add_argument("--schedule", help="length of the training; needed for a new entry")
    parser.add_argument("--results", type=Path, help="JSON with the measured AP")
    parser.add_argument("--hardware", help="hardware of the training; needed with --results")
    parser.add_argument("--license", "--licence", default="Apache-2.0", help="weights' license (default Apache-2.0)")
    add_size(parser, "count parameters and MACs at this image size", "--count", ("HEIGHT", "WIDTH"), None)
    parser.add_argument("--convert", action="store_true", help="publish the weights for the other toolbox too")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in SUFFIXES], default="pth", help="default pth")
    output = Path("work_dirs/published")
    parser.add_argument("--output-dir", type=Path, default=output, help=f"folder to write into (default {output})")
    parser.add_argument("--zoo", type=Path, default=own_zoo(), help="model zoo; created if it does not exist")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--url", help="URL that OUTPUT_DIR/NAME will have after you upload it")
    place.add_argument("--push-to-hub", metavar="USER/REPO", help="upload it to the Hugging Face Hub")
    args = parser.parse_args(argv)
    if args.results and not args.hardware:
        parser.error("--results needs --hardware, without which a result means little")
    return args


def own_zoo() -> Path:
    """Return the zoo that a clone of the repository has, or a file in the current folder for an installed package."""
    return SOURCE_FILE if SOURCE_FILE.is_file() else Path(SOURCE_FILE.name)


def zoo_cost(config: str, size: Sequence[int]) -> Cost:
    """Count the cost of inference on one image of ``size`` (height, width in pixels) for an entry of the zoo."""
    report = detector_cost(config, (size[0], size[1]))
    total = report.total()
    return Cost(total.parameters, total.macs, list(size), list(report.conditions))


def find_configs(folder: Path, name: str) -> dict[str, str]:
    """Find the model's config of each toolbox, as a path relative to the zoo's folder."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"--name {name!r} must be the stem of a config: letters, digits, '_', '-' and '.'")
    found = {
        toolbox: path.relative_to(folder).as_posix()
        for toolbox in TOOLBOXES
        for path in (folder / toolbox / f"{name}.py", folder / toolbox / f"{name}.yaml")
        if path.is_file()
    }
    if not found:
        raise FileNotFoundError(f"--name {name}: no config of that stem in {folder}/mmdet, {folder}/detectron2")
    return found


def make_entry(args: argparse.Namespace, zoo: Zoo, toolbox: str) -> Entry:
    """Make the zoo's entry from the old entry and the command line, without the new files."""
    configs = find_configs(zoo.folder, args.name)
    if toolbox not in configs:
        raise ValueError(f"{args.checkpoint} is a checkpoint of {toolbox}, for which {args.name!r} has no config")
    old = zoo.entries.get(args.name)
    if old is None:
        if not (args.data and args.schedule):
            raise ValueError(f"{args.name!r} is new in {args.zoo}: describe its training with --data and --schedule")
        old = Entry(args.name, configs, args.data, args.schedule)
    results, costs = list(old.results), dict(old.costs)
    if args.results:
        results = [result for result in results if (result.by, result.toolbox) != (OWN, toolbox)]
        metrics = read_results(args.results, toolbox)
        results.insert(0, PublishedResult(OWN, toolbox, metrics, args.results.name, hardware=args.hardware))
    if args.count:
        counted = configs if args.convert else {toolbox: configs[toolbox]}
        costs |= {key: zoo_cost(str(zoo.folder / path), args.count) for key, path in counted.items()}
    data, schedule = args.data or old.data, args.schedule or old.schedule
    return Entry(args.name, configs, data, schedule, results, costs, dict(old.weights), args.license)


def convert_trained(trained: Trained, zoo: Zoo, entry: Entry) -> Trained:
    """Convert the weights to the other toolbox."""
    target = next(toolbox for toolbox in TOOLBOXES if toolbox != trained.toolbox)
    if target not in entry.configs:
        raise ValueError(f"--convert: {entry.name!r} has no config for {target}")
    own, other = (str(zoo.folder / entry.configs[toolbox]) for toolbox in (trained.toolbox, target))
    return replace(trained, weights=convert_weights(trained.weights, other, own), toolbox=target)


def write_files(
    args: argparse.Namespace, zoo: Zoo, entry: Entry, models: Sequence[Trained], base: str | None
) -> dict[str, Path]:
    """Write the weights (trained, then converted) and the card, and add the files to ``entry``.

    Locations start with ``base``, the published folder's future URL, or are relative to the zoo's folder. Returns the
    files by path in the published folder.
    """
    folder = args.output_dir / args.name
    files: dict[str, Path] = {}
    for model in models:
        path = write_published(model, folder / model.toolbox, args.name, f".{args.format}")
        inside = f"{model.toolbox}/{path.name}"
        location = f"{base}/{inside}" if base else os.path.relpath(path, zoo.folder)
        source = None if model is models[0] else models[0].toolbox
        entry.weights[model.toolbox] = Weights(location, sha256_of(path), source)
        files[inside] = path
        print(f"wrote {path}")
    files["README.md"] = folder / "README.md"
    with write_atomically(files["README.md"]) as temporary:
        temporary.write_text(model_card(entry), encoding="utf-8")
    return files


def main(argv: Sequence[str] | None = None) -> None:
    """Read, convert, count, write, upload, and finally add to the zoo."""
    args = parse_args(argv)
    with user_errors():
        trained = clean_checkpoint(args.checkpoint)
        average = f", averages by {trained.average}" if trained.average else ""
        left_out = f"; left out: {', '.join(trained.dropped)}" if trained.dropped else ""
        print(f"{trained.toolbox}: {len(trained.weights)} tensors{average}{left_out}")
        zoo = Zoo.read(args.zoo) if args.zoo.exists() else Zoo([], args.zoo.parent)
        entry = make_entry(args, zoo, trained.toolbox)
        models = [trained, convert_trained(trained, zoo, entry)] if args.convert else [trained]
        base = hub_url(args.push_to_hub, "") if args.push_to_hub else args.url
        files = write_files(args, zoo, entry, models, base and base.rstrip("/"))
        if args.push_to_hub:
            print(f"uploaded: {push_to_hub(files, args.push_to_hub, f'Publish {args.name}')}")
        zoo.entries[entry.name] = entry
        print(f"added {entry.name} to {zoo.write(args.zoo)}; now run tools/docs/model_zoo.py")
