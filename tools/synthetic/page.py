"""Write the demo's results over several seeds as a table of a documentation page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fpn_plugins.files import write_atomically

from .training import NAMES

START, END = "<!-- results of tools/demo.py --config {} --page -->", "<!-- end of results -->"
PACKAGES = ("torch", "onedl-mmdetection", "mmdet", "sal-detectron2", "detectron2")
HEAD = ("toolbox", "seed", "box AP", "AP50", "AP_S", "AP_M", "AP_L", "mask AP", "AP50", "minutes", "CPU minutes")


def write_page(path: Path, config: str, results: Sequence[Mapping[str, Any]]) -> None:
    """Replace what lies between a page's two marks by a table.

    Args:
        path: page to rewrite.
        config: stem of the config, which the first mark names.
        results: contents of ``results.json``, one per seed.

    Raises:
        ValueError: the page lacks the marks; names them.
    """
    text = path.read_text(encoding="utf-8")
    before, start, rest = text.partition(first := START.format(config))
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"--page {path} lacks the lines {first!r} and {END!r}; add them where the table belongs")
    with write_atomically(path) as temporary:
        temporary.write_text(f"{before}{first}\n\n{markdown(results)}\n\n{END}{after}", encoding="utf-8")


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Make the table, with a row per toolbox and seed, and a line about the machine."""
    rows = [HEAD, ("---",) * 2 + ("--:",) * (len(HEAD) - 2)]
    for toolbox, name in NAMES.items():
        for entry in results:
            if toolbox in entry:
                rows.append((name, str(entry["seed"]), *_values(entry[toolbox])))
    first = results[0]
    note = (
        f"(AP x 100 of {first['iterations']} iterations; {first['machine']['cores']} CPU cores, "
        f"{first['machine']['processor']}; {', '.join(_versions())}.)"
    )
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", note])


def _values(result: Mapping[str, Any]) -> list[str]:
    box, mask = result["bbox"], result["segm"]
    scores = [*(box[name] for name in ("AP", "AP50", "AP_S", "AP_M", "AP_L")), mask["AP"], mask["AP50"]]
    minutes = [f"{result[name] / 60:.1f}" if name in result else "-" for name in ("seconds", "cpu_seconds")]
    return [*(f"{100 * score:.1f}" for score in scores), *minutes]


def _versions() -> list[str]:
    """Name and version of each installed package of ``PACKAGES``."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
