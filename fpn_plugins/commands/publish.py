r"""Publish a trained detector: its weights alone, a model card, and an entry in the model zoo.

    python tools/publish_model.py work_dirs/demo/mmdet/iter_400.pth --name demo_mask_rcnn --results \
        work_dirs/demo/results.json --hardware "2 CPU cores" --data "synthetic set" --schedule "400 iterations" \
        [--zoo configs/model_zoo.yml] [--convert] [--count 240 320] [--format safetensors] \
        [--url https://HOST/FOLDER | --push-to-hub USER/REPO]

Reads a training checkpoint of either toolbox without executing pickled code, and uses averaged weights if it has them.
NAME is the stem of the model's configs next to the zoo's file. Writes ``OUT/NAME/<toolbox>/NAME-<hash>.pth``,
``OUT/NAME/README.md`` and, with ``--zoo configs/model_zoo.yml``, the entry NAME of that file; then run
``tools/docs/model_zoo.py --write``. ``--convert`` adds the file for the other toolbox.
Everything is read, compared with the config, converted and counted before anything is written. Results that the entry
has of other weights than those that it now lists are dropped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ..adapters.hosts import check_weights, detector_cost
from ..conversion.tables import TOOLBOXES
from ..files import is_plain_name, write_atomically
from ..zoo.hub import hub_url, push_to_hub
from ..zoo.index import INSTALLED_FILE, SOURCE_FILE, Zoo, sha256_of
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
    parser.add_argument("--license", default="Apache-2.0", help="weights' license (default Apache-2.0)")
    add_size(parser, "count parameters and MACs at this image size", "--count", ("HEIGHT", "WIDTH"), None)
    parser.add_argument("--convert", action="store_true", help="publish the weights for the other toolbox too")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in SUFFIXES], default="pth", help="default pth")
    output = Path("work_dirs/published")
    parser.add_argument("--out", type=Path, default=output, help=f"folder to write into (default {output})")
    zoo = "model zoo to enter the model into; created if it does not exist (default: none)"
    parser.add_argument("--zoo", type=Path, help=zoo)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--url", help="URL that OUT/NAME will have after you upload it")
    place.add_argument("--push-to-hub", metavar="USER/REPO", help="upload it to the Hugging Face Hub")
    args = parser.parse_args(argv)
    args.index = args.zoo or own_zoo()
    if args.results and not args.hardware:
        parser.error("--results needs --hardware, without which a result means little")
    return args


def own_zoo() -> Path:
    """Return the zoo of the source tree or of the installed package, whose entries and configs are the default."""
    return SOURCE_FILE if SOURCE_FILE.is_file() else INSTALLED_FILE


def zoo_cost(config: str, size: Sequence[int]) -> Cost:
    """Count the cost of inference on one image of ``size`` (height, width in pixels) for an entry of the zoo."""
    report = detector_cost(config, (size[0], size[1]))
    total = report.total()
    return Cost(total.parameters, total.macs, list(size), list(report.conditions))


def find_configs(folder: Path, name: str) -> dict[str, str]:
    """Find the model's config of each toolbox, as a path relative to the zoo's folder."""
    if not is_plain_name(name):
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


def described(args: argparse.Namespace, zoo: Zoo, configs: Mapping[str, str]) -> Entry:
    """Return the zoo's entry, or a new one, with what the command line says about the training."""
    old = zoo.entries.get(args.name) or Entry(args.name, {}, "", "")
    data, schedule = args.data or old.data, args.schedule or old.schedule
    if not (data and schedule):
        raise ValueError(f"{args.name!r} is new in {args.index}: describe its training with --data and --schedule")
    return replace(old, configs=dict(configs), data=data, schedule=schedule, license=args.license)


def results_of(
    entry: Entry, weights: Mapping[str, Weights], measured: Sequence[PublishedResult]
) -> Iterator[PublishedResult]:
    """Yield ``measured``, then the entry's results except our own that were measured with other weights."""
    yield from measured
    replaced = {result.toolbox for result in measured}
    for result in entry.results:
        if result.by != OWN:
            yield result
        elif result.toolbox not in replaced:
            new, old = weights.get(result.toolbox), entry.weights.get(result.toolbox)
            if new is None or (old is not None and new.sha256 == old.sha256):
                yield result
            else:
                print(f"dropped {result.metrics} in {result.toolbox}, not measured with these weights (see --results)")


def convert_trained(trained: Trained, folder: Path, configs: Mapping[str, str]) -> Trained:
    """Convert the weights to the other toolbox."""
    target = next(toolbox for toolbox in TOOLBOXES if toolbox != trained.toolbox)
    own, other = (str(folder / configs[toolbox]) for toolbox in (trained.toolbox, target))
    return replace(trained, weights=convert_weights(trained.weights, other, own), toolbox=target)


def write_weights(args: argparse.Namespace, models: Sequence[Trained]) -> tuple[dict[str, Weights], dict[str, Path]]:
    """Write the weights (trained, then converted).

    Locations start with the published folder's future URL, or are relative to the zoo's folder.

    Returns:
        Toolbox -> record of the file, and path in the published folder -> file.
    """
    base = hub_url(args.push_to_hub, "") if args.push_to_hub else args.url
    folder, weights, files = args.out / args.name, {}, {}
    for model in models:
        path = write_published(model, folder / model.toolbox, args.name, f".{args.format}")
        inside = f"{model.toolbox}/{path.name}"
        location = f"{base.rstrip('/')}/{inside}" if base else os.path.relpath(path, args.index.parent)
        source = None if model is models[0] else models[0].toolbox
        weights[model.toolbox], files[inside] = Weights(location, sha256_of(path), source), path
        print(f"wrote {path}")
    return weights, files


def prepare(args: argparse.Namespace) -> tuple[dict[str, str], list[Trained], list[PublishedResult]]:
    """Read the checkpoint and the results, check them, and convert the weights, before anything is written.

    Returns:
        The configs, the weights by toolbox, and the results measured with them.
    """
    trained = clean_checkpoint(args.checkpoint)
    toolbox, folder = trained.toolbox, args.index.parent
    average = f", averages by {trained.average}" if trained.average else ""
    left_out = f"; left out: {', '.join(trained.dropped)}" if trained.dropped else ""
    print(f"{toolbox}: {len(trained.weights)} tensors{average}{left_out}")
    configs = find_configs(folder, args.name)
    for needed in TOOLBOXES if args.convert else (toolbox,):
        if needed not in configs:
            raise ValueError(
                f"{args.checkpoint} is a checkpoint of {toolbox}; {args.name!r} has no config for {needed}"
            )
    described(args, Zoo.read(args.index) if args.index.exists() else Zoo([], folder), configs)
    measured = []
    if args.results:
        metrics = read_results(args.results, toolbox)
        measured = [PublishedResult(OWN, toolbox, metrics, args.results.name, hardware=args.hardware)]
    check_weights(str(folder / configs[toolbox]), trained.weights, str(args.checkpoint), toolbox)
    return configs, [trained, *([convert_trained(trained, folder, configs)] if args.convert else [])], measured


def main(argv: Sequence[str] | None = None) -> None:
    """Read, check, convert, count, write, upload, and finally add to the zoo."""
    args = parse_args(argv)
    with user_errors():
        configs, models, measured = prepare(args)
        counted = {model.toolbox: str(args.index.parent / configs[model.toolbox]) for model in models if args.count}
        costs = {toolbox: zoo_cost(config, args.count) for toolbox, config in counted.items()}
        weights, files = write_weights(args, models)
        with Zoo.update(args.zoo, create=True) if args.zoo else nullcontext(Zoo.read(args.index)) as zoo:
            entry = described(args, zoo, configs)
            entry.results = list(results_of(entry, weights, measured))
            entry.costs, entry.weights = {**entry.costs, **costs}, {**entry.weights, **weights}
            zoo.entries[entry.name] = entry
            files["README.md"] = args.out / args.name / "README.md"
            with write_atomically(files["README.md"]) as temporary:
                temporary.write_text(model_card(entry), encoding="utf-8")
            if args.push_to_hub:
                print(f"uploaded: {push_to_hub(files, args.push_to_hub, f'Publish {args.name}')}")
        if args.zoo:
            print(f"added {entry.name} to {args.zoo}; now run tools/docs/model_zoo.py --write")
        else:
            print(f"{entry.name} is in no model zoo yet; --zoo FILE enters it")
