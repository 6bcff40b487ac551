"""Make the model zoo's page and MIM's index out of ``configs/model_zoo.yml``.

    python tools/docs/model_zoo.py [--check | --count 800 1344]

Writes ``docs/model_zoo.md``, ``configs/metafile.yml`` and ``model-index.yml``; with ``--check`` it writes nothing and
fails if one of them is not what it would write. ``--count`` first enters the cost of models that have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fpn_plugins.commands.common import user_errors
from fpn_plugins.commands.publish import zoo_cost
from fpn_plugins.files import write_atomically
from fpn_plugins.zoo.index import SOURCE_FILE, Zoo
from fpn_plugins.zoo.pages import GENERATED, mim_index, mim_metafile, zoo_page


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Render the model zoo")
    parser.add_argument("--root", type=Path, default=SOURCE_FILE.parents[1], help="the repository")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of date")
    choice.add_argument("--count", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="count the missing costs")
    return parser.parse_args()


def render(zoo: Zoo) -> dict[str, str]:
    """Path from the root -> content."""
    import yaml

    def as_yaml(content: object) -> str:
        return f"# {GENERATED}; edit that.\n" + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)

    return {
        "docs/model_zoo.md": zoo_page(zoo),
        "configs/metafile.yml": as_yaml(mim_metafile(zoo)),
        "model-index.yml": as_yaml(mim_index()),
    }


def enter_costs(zoo: Zoo, path: Path, size: tuple[int, int]) -> None:
    """Count what the models cost that have no cost yet, and write each into the zoo's file as it is known."""
    from tqdm import tqdm

    missing = [
        (entry, toolbox) for entry in zoo.entries.values() for toolbox in entry.configs if toolbox not in entry.costs
    ]
    for entry, toolbox in tqdm(missing, desc="configs"):
        entry.costs[toolbox] = zoo_cost(zoo.config(entry.name, toolbox), size)
        zoo.write(path)


def is_current(path: Path, text: str) -> bool:
    """Whether a file has that content."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> None:
    """Render, and write or compare."""
    args = parse_args()
    with user_errors():
        path = args.root / "configs" / "model_zoo.yml"
        zoo = Zoo.read(path)
        if args.count:
            enter_costs(zoo, path, tuple(args.count))
        files = render(zoo)
        old = {name: text for name, text in files.items() if not is_current(args.root / name, text)}
        if args.check and old:
            raise ValueError(f"out of date: {', '.join(old)}; run python tools/docs/model_zoo.py")
        for name, text in old.items():
            (args.root / name).parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(args.root / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(f"wrote {args.root / name}")


if __name__ == "__main__":
    main()
