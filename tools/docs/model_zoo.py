"""Make the model zoo's page and MIM's index out of ``configs/model_zoo.yml``.

    python tools/docs/model_zoo.py --write [--count 800 1344]
    python tools/docs/model_zoo.py --check

``--write`` writes ``docs/model_zoo.md``, ``configs/metafile.yml`` and ``model-index.yml``; ``--check`` fails if one of
them is not what it would write. ``--count`` first enters the cost of models that have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors
from fpn_plugins.commands.publish import zoo_cost
from fpn_plugins.files import write_atomically
from fpn_plugins.zoo.index import SOURCE_FILE, Zoo
from fpn_plugins.zoo.pages import GENERATED, zoo_page
from fpn_plugins.zoo.records import Entry, PublishedResult

TASKS = {"box AP": "Object Detection", "mask AP": "Instance Segmentation", "PQ": "Panoptic Segmentation"}
COLLECTION = "fpn_plugins"


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Render the model zoo")
    parser.add_argument("--repository", type=Path, default=SOURCE_FILE.parents[1], help="folder of configs/ and docs/")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="write the files that are out of date")
    choice.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of date")
    parser.add_argument("--count", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="count the missing costs")
    args = parser.parse_args()
    if args.check and args.count:
        parser.error("--count changes configs/model_zoo.yml: give --write in place of --check")
    return args


def mim_metafile(zoo: Zoo) -> dict[str, Any]:
    """Build ``configs/metafile.yml``: the models that have a config for MMDetection.

    ``Results`` holds our own measurements alone: MIM cannot say whose a result is, so cited results are text.
    """
    architecture = {"Architecture": ["Feature pyramid"]}
    return {
        "Collections": [{"Name": COLLECTION, "Metadata": architecture, "README": "README.md"}],
        "Models": [_mim_model(entry) for entry in zoo.entries.values() if "mmdet" in entry.configs],
    }


def _mim_model(entry: Entry) -> dict[str, Any]:
    metadata: dict[str, Any] = {"Training Data": entry.data, "Schedule": entry.schedule}
    own = [result for result in entry.results_by(own=True) if result.toolbox == "mmdet"]
    if own and own[0].hardware:
        metadata["Training Resources"] = own[0].hardware
    if cost := entry.costs.get("mmdet"):
        metadata.update({"Parameters": cost.parameters, "MACs": cost.macs})
    if cited := [result for result in entry.results_by(own=False) if result.toolbox == "mmdet"]:
        metadata["Published By Others"] = "; ".join(_sentence(result) for result in cited)
    model: dict[str, Any] = {
        "Name": entry.name,
        "In Collection": COLLECTION,
        "Config": f"configs/{entry.configs['mmdet']}",
        "Metadata": metadata,
    }
    if own:
        model["Results"] = [
            {"Task": TASKS[name], "Dataset": entry.data, "Metrics": {name: value}}
            for name, value in own[0].metrics.items()
        ]
    weights = entry.weights.get("mmdet")
    if weights and weights.is_public:
        model["Weights"] = weights.location
    return model


def _sentence(result: PublishedResult) -> str:
    metrics = ", ".join(f"{name} {value}" for name, value in result.metrics.items())
    return f"{metrics} by {result.by}" + (f" ({result.config})" if result.config else "")


def render(zoo: Zoo) -> dict[str, str]:
    """Path from the root -> content."""
    import yaml

    def as_yaml(content: object) -> str:
        return f"# {GENERATED}; edit that.\n" + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)

    return {
        "docs/model_zoo.md": zoo_page(zoo),
        "configs/metafile.yml": as_yaml(mim_metafile(zoo)),
        "model-index.yml": as_yaml({"Import": ["configs/metafile.yml"]}),  # MIM looks for it at the root
    }


def enter_costs(zoo: Zoo, path: Path, size: tuple[int, int]) -> None:
    """Count what the models cost that have no cost yet, and write each into the zoo's file as it is known."""
    from tqdm import tqdm

    missing = [
        (entry, toolbox) for entry in zoo.entries.values() for toolbox in entry.configs if toolbox not in entry.costs
    ]
    for entry, toolbox in tqdm(missing, desc="configs"):
        entry.costs[toolbox] = zoo_cost(zoo.config(entry.name, toolbox), size)
        with Zoo.update(path) as current:
            current.find(entry.name).costs[toolbox] = entry.costs[toolbox]


def is_current(path: Path, text: str) -> bool:
    """Whether a file has that content."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> None:
    """Render, and write or compare."""
    args = parse_args()
    with user_errors():
        path = args.repository / "configs" / "model_zoo.yml"
        zoo = Zoo.read(path)
        if args.count:
            enter_costs(zoo, path, tuple(args.count))
        files = render(zoo)
        old = {name: text for name, text in files.items() if not is_current(args.repository / name, text)}
        if args.check and old:
            raise ValueError(f"out of date: {', '.join(old)}; run python tools/docs/model_zoo.py --write")
        for name, text in old.items():
            (args.repository / name).parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(args.repository / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(f"wrote {args.repository / name}")


if __name__ == "__main__":
    main()
